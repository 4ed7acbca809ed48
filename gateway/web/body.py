"""Reading a request's body, with limits on its size and time. Compressed bodies are refused."""

import asyncio

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestPayloadError

from gateway.core.errors import BodyTooLarge, InvalidRequest, WrongContentType
from gateway.core.headers import json_content_type

BODY_SECONDS = 30.0
"""How long a client may take to send its whole body. aiohttp has no such limit."""

_EXPECTED = "100-continue"


async def read_json_body(
    request: web.BaseRequest, limit: int, seconds: float = BODY_SECONDS
) -> bytes:
    """Read at most `limit` bytes, regardless of Content-Length, within `seconds`.

    Raises WrongContentType, BodyTooLarge or InvalidRequest.
    """
    if not json_content_type(request.headers.get("Content-Type")):
        raise WrongContentType
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise WrongContentType("Send the request body uncompressed.")
    if (request.content_length or 0) > limit:
        raise BodyTooLarge(limit)
    if request.content.is_eof() and request.content.exception() is None:
        return _within(
            request.content.read_nowait(), limit
        )  # the body arrived together with its head
    await _continue(request)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit)
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


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    chunks, size = [], 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
    return b"".join(chunks)
