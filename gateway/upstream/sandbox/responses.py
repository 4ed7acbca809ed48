"""The responses of the sandbox, and the ways to send one: whole, in pieces, cut off, or never."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiohttp import web
from msgspec import json

_CHUNK = 65_536
_PIECES = 20

_OPENAI: Mapping[int, tuple[str, str, str | None]] = {
    400: (
        "Your request was rejected by the safety system.",
        "image_generation_user_error",
        "moderation_blocked",
    ),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("This organization may not use this model.", "permission_error", "forbidden"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    418: ("I am a teapot.", "invalid_request_error", None),
    422: ("The request cannot be processed.", "invalid_request_error", "unprocessable"),
    429: ("Rate limit reached for images per minute.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error.", "server_error", "server_error"),
    503: ("The engine is overloaded.", "server_error", "overloaded"),
}

_HEADERS: Mapping[int, Mapping[str, str]] = {
    # Relative: a client that follows the redirect comes back here and is counted.
    **{status: {"Location": "/api/v1/images/generations"} for status in (301, 302, 307, 308)},
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "7"},
}


# -- responses ----------------------------------------------------------------------------------


def plain_response(status: int, body: bytes) -> web.Response:
    """Return a response whose content type follows from its body."""
    kind = "text/html; charset=utf-8" if body.startswith(b"<") else "application/json"
    return web.Response(status=status, body=body, headers={"Content-Type": kind})


def error_body(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    """Return an error in OpenAI's shape."""
    fields = {"message": message, "type": type, "param": param, "code": code}
    return json.encode({"error": fields})


def page(title: str) -> bytes:
    """Return an HTML page, such as an edge proxy shows."""
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()


def status_response(status: int, body: str | None, headers: Mapping[str, str]) -> web.Response:
    """Return a response of this status with `body`, or OpenAI's error, or the page of an edge.

    `headers` are set on top of the usual ones. An empty value removes a header.
    """
    error = error_body(*_OPENAI[status]) if status in _OPENAI else page(str(status))
    answer = plain_response(status, error if body is None else body.encode())
    answer.headers.update(_HEADERS.get(status, {}))
    for name, value in headers.items():
        answer.headers.popall(name, None)
        if value:
            answer.headers[name] = value
    return answer


def event(name: str, data: dict[str, Any]) -> bytes:
    """Return an event of a stream, in OpenAI's shape."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.encode({"type": name, **data}))


# -- sending ------------------------------------------------------------------------------------


async def send(
    request: web.Request, pieces: AsyncIterator[bytes], headers: Mapping[str, str]
) -> tuple[web.StreamResponse, bool]:
    """Send a body piece by piece. Also returns whether all of it went out."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
    try:
        await answer.prepare(request)
        await answer.write(b"")  # the headers wait for the first write
        async for piece in pieces:
            await answer.write(piece)
        await answer.write_eof()
    except ConnectionError:  # the client has left, or the connection was cut
        return answer, False
    return answer, True


async def whole(body: bytes) -> AsyncIterator[bytes]:
    """Yield the body at once."""
    yield body


async def slowly(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    """Yield the body over so many seconds."""
    for piece in range(_PIECES):
        await asyncio.sleep(seconds / _PIECES)
        yield body[len(body) * piece // _PIECES : len(body) * (piece + 1) // _PIECES]


async def paced(events: Sequence[bytes], seconds: float) -> AsyncIterator[bytes]:
    """Yield events over so many seconds."""
    for each in events:
        await asyncio.sleep(seconds / len(events))
        yield each


async def half(request: web.Request, body: bytes) -> AsyncIterator[bytes]:
    """Yield half of the body, then drop the connection."""
    end = len(body) // 2
    if request.transport is not None:
        # A write must have left once it returns, because the cut discards buffered data.
        request.transport.set_write_buffer_limits(0)
    for start in range(0, end, _CHUNK):
        yield body[start : min(start + _CHUNK, end)]
    cut(request)
    raise ConnectionAbortedError


async def huge(size: int) -> AsyncIterator[bytes]:
    """Yield a valid response of more than `size` bytes, which is never whole in memory."""
    yield b'{"created":0,"data":[{"b64_json":"'
    for _ in range(0, size, _CHUNK):
        yield b"A" * _CHUNK
        await asyncio.sleep(0)  # other tasks run meanwhile: a write may return without waiting
    yield b'"}]}'


async def bomb(size: int) -> AsyncIterator[bytes]:
    """Yield a small gzip response that inflates to more than `size` bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    async for piece in huge(size):
        yield packer.compress(piece)
    yield packer.flush()


def cut(request: web.Request) -> web.StreamResponse:
    """Drop the connection. Only aiohttp sees the response."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def hang(request: web.Request) -> web.StreamResponse:
    """Never answer. Returns once the client has left."""
    while request.transport is not None:  # noqa: ASYNC110 (aiohttp has no event for it)
        await asyncio.sleep(0.02)
    return web.Response()
