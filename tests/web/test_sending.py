"""Megabytes to clients of any speed."""

import asyncio
from contextlib import AbstractAsyncContextManager
from time import perf_counter

import aiohttp
from aiohttp import web

from gateway.telemetry.request_record import RequestRecord
from gateway.web.body import SLICE_BYTES, send
from tests.support.serving import serving
from tests.support.steps import until

BODY = bytes(range(256)) * (40 * SLICE_BYTES // 256) + b"end"


def sending(
    body: bytes, record: RequestRecord, seconds: float = 30
) -> AbstractAsyncContextManager[str]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(body=body, headers={"Content-Type": "application/json"})
        return await send(request, response, record, seconds)

    return serving(handle)


async def test_a_body_of_any_size_arrives_whole_and_the_connection_stays() -> None:
    for size in (0, 1, SLICE_BYTES, SLICE_BYTES + 1, len(BODY)):
        record = RequestRecord(id="r", started=0)
        async with sending(BODY[:size], record) as url, aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(url) as response:
                    assert response.headers["Content-Length"] == str(size)
                    assert response.headers["Content-Type"] == "application/json"
                    assert await response.read() == BODY[:size]


async def test_a_client_that_reads_nothing_is_cut() -> None:
    record = RequestRecord(id="r", started=perf_counter())
    async with sending(BODY, record, seconds=0.2) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**12)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await until(lambda: record.waited > 0)
        # Waiting for a slow client is not the gateway's own time.
        assert record.waited >= 0.2
        writer.transport.abort()
        assert reader is not None
