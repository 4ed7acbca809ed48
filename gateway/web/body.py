"""Bodies: reading those of requests, and sending large ones.

A request's body has limits on its size and time, and a compressed one is inflated: see
`gateway.web.inflate`. All bodies together have a budget: see `gateway.web.body_budget`.

aiohttp joins a whole response to its headers and buffers it, so a hundred slow clients would hold
a hundred copies of one image. Sent apart from its headers, and in slices, a body is not copied.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web
from aiohttp.hdrs import METH_HEAD
from aiohttp.web_protocol import RequestPayloadError
from msgspec import Struct

from gateway.core.errors import BodyTooLarge, Draining, InvalidRequest, WrongContentType
from gateway.core.headers import content_type_fault
from gateway.core.turns import Turns
from gateway.telemetry.request_record import RequestRecord
from gateway.web.body_budget import LARGE_BYTES, BodyShare
from gateway.web.inflate import inflate, read_codings

BODY_SECONDS = 30.0
"""How long a client of the admin port may take to send its body. aiohttp has no such limit."""

SMALL_BYTES = 8_192
SLICE_BYTES = 262_144

SLICES_AT_ONCE = 4
"""The most slices that are written in one turn of the event loop: the kernel takes up to a
millisecond for each."""

_EXPECTED = "100-continue"


async def read_json_body(
    request: web.BaseRequest, limit: int, share: BodyShare, seconds: float = BODY_SECONDS
) -> bytes:
    """Read at most `limit` bytes, regardless of Content-Length, within `seconds`.

    A compressed body is inflated, to at most `limit` bytes. The bytes count in `share`. Raises
    WrongContentType, BodyTooLarge or InvalidRequest, and RateLimited or Overloaded if the budget of
    bodies is used up.
    """
    fault = content_type_fault(request.headers.get("Content-Type"))
    if fault is not None:
        raise WrongContentType(fault)
    codings = read_codings(request.headers.getall("Content-Encoding", ()))
    body = await _read_whole(request, limit, share, seconds)
    if codings:
        body = await inflate(body, codings, limit, share)
    if len(body) <= LARGE_BYTES:
        share.release()
    return body


async def _read_whole(
    request: web.BaseRequest, limit: int, share: BodyShare, seconds: float
) -> bytes:
    declared = request.content_length or 0
    if declared > limit:
        raise BodyTooLarge(limit)
    if request.content.is_eof() and request.content.exception() is None:
        body = request.content.read_nowait()  # it arrived together with its head
        if len(body) > limit:
            raise BodyTooLarge(limit)
        if len(body) > LARGE_BYTES:
            share.take(len(body))
        return body
    share.take(declared)
    await _continue(request)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit, share)
    except TimeoutError:
        raise InvalidRequest("The request body arrived too slowly.", code="body_timeout") from None
    except RequestPayloadError:
        raise InvalidRequest("The request body is broken.", code="invalid_body") from None


async def _continue(request: web.BaseRequest) -> None:
    """Ask a client that waits for 100 Continue to send its body. HTTP/1.0 has no such answer."""
    if request.version < HttpVersion11 or request.headers.get("Expect", "").lower() != _EXPECTED:
        return
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # an interim answer does not count as the answer


async def _read(request: web.BaseRequest, limit: int, share: BodyShare) -> bytes:
    # One buffer: a list of chunks takes many times the body's size if each has a byte or two.
    body, is_counted = bytearray(), request.content_length is not None
    while chunk := await request.content.readany():
        if len(body) + len(chunk) > limit:
            raise BodyTooLarge(limit)
        if not is_counted:
            share.take(len(chunk))
        body += chunk
    return bytes(body)


def refuse_body(request: web.BaseRequest | None) -> None:
    """End the wait for a body in a shutdown, in which aiohttp drops what arrives."""
    if request is not None and not request.content.is_eof():
        request.content.set_exception(Draining())


class Slices(Struct, frozen=True):
    """A body of `length` bytes that is read as it is sent.

    `read` returns its slice of at most SLICE_BYTES from a position on, or None if that failed.
    """

    length: int
    read: Callable[[int], Awaitable[bytes | memoryview | None]]


def slices_of(body: bytes) -> Slices:
    """Return bytes in memory as a body."""
    view = memoryview(body)

    async def read(start: int) -> memoryview:
        return view[start : start + SLICE_BYTES]

    return Slices(len(body), read)


async def send(
    request: web.BaseRequest,
    response: web.Response,
    record: RequestRecord,
    seconds: float,
    turns: Turns,
    *,
    small: bool = False,
    slices: Slices | None = None,
) -> tuple[web.StreamResponse, bool]:
    """Send a response. Return it, and whether all of it was sent.

    A small one is returned unsent, for aiohttp to send, unless `small` asks for it to be sent here.
    The body is that of the response, or `slices`.
    A client that takes longer than `seconds` for a slice loses its connection. `turns` bounds the
    writing in each turn of the event loop.
    """
    if slices is None:
        body = response.body
        if request.method == METH_HEAD or not isinstance(body, bytes):
            return response, False
        if len(body) <= SMALL_BYTES and not small:
            return response, False
        slices = slices_of(body)
    sliced = web.StreamResponse(status=response.status, headers=response.headers)
    sliced.content_length = slices.length
    try:
        with record.waiting():
            await sliced.prepare(request)
            request.writer.send_headers()
            await write(sliced, slices, seconds, turns)
            if small:
                async with asyncio.timeout(seconds):
                    await sliced.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        return sliced, False
    except ConnectionError:  # the client left just now; aiohttp finds that out by itself too
        return sliced, False
    return sliced, is_open(request)


async def write(response: web.StreamResponse, slices: Slices, seconds: float, turns: Turns) -> None:
    """Write bytes of a response that was begun. Raises ConnectionError if the client left.

    Raises TimeoutError if it takes longer than `seconds` for a slice, or if one cannot be read.
    """
    for start in range(0, slices.length, SLICE_BYTES):
        piece = await slices.read(start)
        if piece is None:
            raise TimeoutError  # cut off: its length was promised
        await turns.take()
        async with asyncio.timeout(seconds):
            await response.write(piece)


def is_open(request: web.BaseRequest) -> bool:
    """Whether the client is still there, as far as the system knows."""
    return request.transport is not None and not request.transport.is_closing()
