"""Replies, and the ways to send one: whole, in pieces, cut off, without an end, or never."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

from aiohttp import web
from msgspec import Struct, field
from multidict import CIMultiDict

_JSON = {"Content-Type": "application/json"}
_CHUNK = 65_536
_OPENING = b'{"created":0,"data":[{"b64_json":"'
_CLOSING = b'"}]}'
_PIECES = 20


class Reply(Struct, frozen=True):
    """A response before it is sent. JSON, unless its headers say otherwise."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)

    def with_headers(self, more: Mapping[str, str]) -> "Reply":
        """The same with these headers set. An empty value takes a header away."""
        headers = CIMultiDict(self.headers)
        for name, value in more.items():
            headers.pop(name, None)
            if value:
                headers[name] = value
        return Reply(self.body, self.status, headers)

    @property
    def response(self) -> web.Response:
        """The same for aiohttp."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)


async def send_whole(request: web.Request, reply: Reply) -> tuple[web.StreamResponse, bool]:
    """The response, and whether all of it was given to the socket: the client may have left."""
    response = reply.response
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return response, False
    return response, True


async def send_slowly(
    request: web.Request, reply: Reply, seconds: float
) -> tuple[web.StreamResponse, bool]:
    """As `send_whole`: the headers at once, the body piece by piece over so many seconds."""
    size = len(reply.body)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in range(_PIECES):
            await asyncio.sleep(seconds / _PIECES)
            yield reply.body[size * piece // _PIECES : size * (piece + 1) // _PIECES]

    return await _send(request, reply.with_headers({"Content-Length": str(size)}), pieces())


async def send_huge(request: web.Request, size: int) -> web.StreamResponse:
    """An answer of more than `size` bytes, valid but for its length, never whole in memory."""
    response, _ = await _send(request, Reply(b""), _paced(_long_answer(size)))
    return response


async def send_bomb(request: web.Request, size: int) -> web.StreamResponse:
    """An answer small on the wire, which inflates to more than `size` bytes."""
    reply = Reply(b"").with_headers({"Content-Encoding": "gzip"})
    response, _ = await _send(request, reply, _paced(_deflated(_long_answer(size))))
    return response


async def cut_in_body(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Send the headers and half of the body, then drop the connection."""
    size = len(reply.body)

    async def half() -> AsyncIterator[bytes]:
        if request.transport is not None:
            # A write that returns has then left: dropping the connection drops what still waits.
            request.transport.set_write_buffer_limits(0)
        for start in range(0, size // 2, _CHUNK):
            yield reply.body[start : min(start + _CHUNK, size // 2)]
        cut(request)

    response, _ = await _send(request, reply.with_headers({"Content-Length": str(size)}), half())
    return response


def cut(request: web.Request) -> web.StreamResponse:
    """Drop the connection. The response is for aiohttp alone: nobody will see it."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answer: return once the client has left."""
    while request.transport is not None:  # noqa: ASYNC110 (aiohttp has no event for it)
        await asyncio.sleep(0.02)
    return web.Response()


async def _send(
    request: web.Request, reply: Reply, pieces: AsyncIterator[bytes]
) -> tuple[web.StreamResponse, bool]:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    try:
        await response.prepare(request)
        await response.write(b"")  # the headers wait for the first write
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        return response, False
    return response, True


async def _paced(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, with turns for others between them: a write need not wait."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _long_answer(size: int) -> Iterator[bytes]:
    yield _OPENING
    for _ in range(0, size, _CHUNK):
        yield b"A" * _CHUNK
    yield _CLOSING


def _deflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for piece in pieces:
        # The packer keeps most of it back until there is enough to write.
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
