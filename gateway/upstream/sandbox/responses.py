"""The responses of the sandbox, and the ways to send one: whole, in pieces, cut off, or never."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

from aiohttp import web
from msgspec import json

_CHUNK = 65_536
_OPENING = b'{"created":0,"data":[{"b64_json":"'
_CLOSING = b'"}]}'
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


def json_response(status: int, value: object) -> web.Response:
    """Return a response with this value as JSON."""
    return text_response(status, json.encode(value))


def error_response(
    status: int, message: str, type: str, code: str | None, param: str | None = None
) -> web.Response:
    """Return an error in OpenAI's shape."""
    fields = {"message": message, "type": type, "param": param, "code": code}
    return json_response(status, {"error": fields})


def page_response(status: int, title: str) -> web.Response:
    """Return an HTML page, such as an edge proxy shows."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return text_response(status, page.encode())


def status_response(status: int, body: str | None, headers: Mapping[str, str]) -> web.Response:
    """Return a response of this status with `body`, or OpenAI's error, or the page of an edge.

    `headers` are set on top of the usual ones. An empty value removes a header.
    """
    if body is not None:
        response = text_response(status, body.encode())
    elif status in _OPENAI:
        response = error_response(status, *_OPENAI[status])
    else:
        response = page_response(status, str(status))
    response.headers.update(_HEADERS.get(status, {}))
    for name, value in headers.items():
        response.headers.popall(name, None)
        if value:
            response.headers[name] = value
    return response


def text_response(status: int, body: bytes) -> web.Response:
    """Return a response whose content type follows from its body."""
    kind = "text/html; charset=utf-8" if body.startswith(b"<") else "application/json"
    return web.Response(status=status, body=body, headers={"Content-Type": kind})


# -- sending ------------------------------------------------------------------------------------


async def send_whole(request: web.Request, response: web.Response) -> bool:
    """Send a response. Returns whether all of it went out: the client may have left."""
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return True


async def send_slowly(
    request: web.Request, body: bytes, seconds: float
) -> tuple[web.StreamResponse, bool]:
    """Send the headers at once, and the body piece by piece over so many seconds."""
    size = len(body)

    async def pieces() -> AsyncIterator[bytes]:
        for piece in range(_PIECES):
            await asyncio.sleep(seconds / _PIECES)
            yield body[size * piece // _PIECES : size * (piece + 1) // _PIECES]

    return await _send(request, {"Content-Length": str(size)}, pieces())


async def send_huge(request: web.Request, size: int) -> web.StreamResponse:
    """Send a valid response of more than `size` bytes, which is never whole in memory."""
    response, _ = await _send(request, {}, _paced(_long_body(size)))
    return response


async def send_bomb(request: web.Request, size: int) -> web.StreamResponse:
    """Send a small response that inflates to more than `size` bytes."""
    pieces = _paced(_deflated(_long_body(size)))
    response, _ = await _send(request, {"Content-Encoding": "gzip"}, pieces)
    return response


async def cut_in_body(request: web.Request, body: bytes) -> web.StreamResponse:
    """Send the headers and half of the body, then drop the connection."""
    size = len(body)

    async def half() -> AsyncIterator[bytes]:
        if request.transport is not None:
            # A write must have left once it returns, because the cut discards buffered data.
            request.transport.set_write_buffer_limits(0)
        for start in range(0, size // 2, _CHUNK):
            yield body[start : min(start + _CHUNK, size // 2)]
        cut(request)

    response, _ = await _send(request, {"Content-Length": str(size)}, half())
    return response


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


async def _send(
    request: web.Request, headers: Mapping[str, str], pieces: AsyncIterator[bytes]
) -> tuple[web.StreamResponse, bool]:
    response = web.StreamResponse(headers={"Content-Type": "application/json", **headers})
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
    """Let other tasks run between the pieces: a write may return without waiting."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


def _long_body(size: int) -> Iterator[bytes]:
    yield _OPENING
    for _ in range(0, size, _CHUNK):
        yield b"A" * _CHUNK
    yield _CLOSING


def _deflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
