"""Sending megabytes to slow clients without a copy of the body for each.

aiohttp joins a whole body to its headers and buffers it, so a hundred slow clients would hold a
hundred copies of one image. Sent in slices, each client holds one slice at a time.
"""

import asyncio

from aiohttp import web

from gateway.telemetry.request_record import RequestRecord

SLICE_BYTES = 262_144

SLICE_SECONDS = 30.0
"""How long a client may take for one slice. The gateway cuts slower connections."""


async def send(
    request: web.BaseRequest,
    response: web.Response,
    record: RequestRecord,
    seconds: float = SLICE_SECONDS,
) -> web.StreamResponse:
    """Send a response larger than a slice. Return a smaller one unsent, for aiohttp to send."""
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
