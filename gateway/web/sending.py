"""Sending megabytes to clients of any speed, without a copy of them for each.

A whole body given to aiohttp is joined to its headers and buffered: a hundred clients that read
slowly would hold a hundred copies of one picture. In slices, each waits only for its own next one.
"""

import asyncio

from aiohttp import web

from gateway.telemetry.request_record import RequestRecord

SLICE_BYTES = 262_144

SLICE_SECONDS = 30.0
"""How long a client may take over one slice; the connection of a slower one is broken off."""


async def send(
    request: web.BaseRequest,
    response: web.Response,
    record: RequestRecord,
    seconds: float = SLICE_SECONDS,
) -> web.StreamResponse:
    """Send a response whose body is larger than a slice; a smaller one is returned to be sent."""
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
