"""Bodies: reading those of requests, and sending large ones.

A request's body has limits on its size and time, and must not be compressed.

aiohttp joins a whole response to its headers and buffers it, so a hundred slow clients would hold
a hundred copies of one image. Sent in slices, each client holds one slice at a time.
"""

import asyncio

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestPayloadError

from gateway.core.errors import BodyTooLarge, InvalidRequest, WrongContentType
from gateway.core.headers import json_content_type
from gateway.telemetry.request_record import RequestRecord

BODY_SECONDS = 30.0
"""How long a client of the admin port may take to send its body. aiohttp has no such limit."""

SLICE_BYTES = 262_144

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
        body = request.content.read_nowait()  # it arrived together with its head
        if len(body) > limit:
            raise BodyTooLarge(limit)
        return body
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


async def _read(request: web.BaseRequest, limit: int) -> bytes:
    chunks, size = [], 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def send(
    request: web.BaseRequest,
    response: web.Response,
    record: RequestRecord,
    seconds: float,
) -> web.StreamResponse:
    """Send a response larger than a slice. Return a smaller one unsent, for aiohttp to send.

    A client that takes longer than `seconds` for a slice loses its connection.
    """
    body = response.body
    if not isinstance(body, bytes) or len(body) <= SLICE_BYTES:
        return response
    sliced = web.StreamResponse(status=response.status, headers=response.headers)
    sliced.content_length = len(body)
    view = memoryview(body)
    try:
        with record.waiting():
            await sliced.prepare(request)
            for start in range(0, len(body), SLICE_BYTES):
                async with asyncio.timeout(seconds):
                    await sliced.write(view[start : start + SLICE_BYTES])
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return sliced
