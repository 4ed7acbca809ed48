"""Bodies: the limits on those that are read, and large ones sent to clients of any speed."""

import asyncio
import gzip
import zlib
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import perf_counter

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.core.errors import GatewayError
from gateway.core.turns import Turns
from gateway.telemetry.request_record import RequestRecord
from gateway.web.body import SLICE_BYTES, SLICES_AT_ONCE, read_json_body, send
from gateway.web.body_budget import BodyBudget, BodyLimits, BodyShare
from gateway.web.responses import error_response
from tests.support.raw import RawAnswer, ask, chunked, request_bytes, wire
from tests.support.serving import serving
from tests.support.steps import until

LIMIT = 1_000
CHUNKED = "Transfer-Encoding: chunked\r\n"
CONTINUE = "Expect: 100-continue\r\n"


async def echo(request: web.BaseRequest, *, seconds: float) -> web.Response:
    """Answer with the body, or with the error."""
    try:
        share = BodyShare(BodyBudget(lambda: BodyLimits(LIMIT, LIMIT), lambda: 0.0))
        return web.Response(body=await read_json_body(request, LIMIT, share, seconds))
    except GatewayError as error:
        return error_response(error)


def reading(seconds: float = 5.0) -> AbstractAsyncContextManager[str]:
    return serving(partial(echo, seconds=seconds))


async def answer_to(request: bytes) -> RawAnswer:
    async with reading() as url:
        return await ask(url, request)


def typed(line: str, body: bytes = b"{}") -> bytes:
    """A request with this Content-Type line."""
    return request_bytes(body=body).replace(b"Content-Type: application/json\r\n", line.encode())


async def test_a_body_is_read_unchanged() -> None:
    async with reading() as url:
        for body in (b"", b"{}", b"x" * LIMIT, b"\0\xff"):
            assert (await ask(url, request_bytes(body=body))).body == body
        chunks = chunked(b"ab", b"c" * 300)
        request = request_bytes(body=chunks, headers=CHUNKED, length=None)
        assert (await ask(url, request)).body == b"ab" + b"c" * 300


async def test_only_json_is_accepted() -> None:
    async with reading() as url:
        assert (await ask(url, request_bytes(body=b"{}"))).status == 200
        for line in ("", "Content-Type: text/plain\r\n"):
            assert (await ask(url, typed(line))).error == (415, "unsupported_content_type"), line


async def test_a_compressed_body_is_inflated_and_other_codings_are_refused() -> None:
    async with reading() as url:
        packed = gzip.compress(b"{}" + b" " * 900)
        for encoding in ("gzip", "X-GZIP", " gzip ", "identity, gzip,", ",gzip"):
            request = request_bytes(body=packed, headers=f"Content-Encoding: {encoding}\r\n")
            assert (await ask(url, request)).body == b"{}" + b" " * 900, encoding
        twice = "Content-Encoding: deflate\r\nContent-Encoding: gzip\r\n"
        both = gzip.compress(zlib.compress(b"{}"))
        assert (await ask(url, request_bytes(body=both, headers=twice))).body == b"{}"
        for encoding in ("", "Identity", ",", "identity,identity"):
            request = request_bytes(body=b"{}", headers=f"Content-Encoding: {encoding}\r\n")
            assert (await ask(url, request)).body == b"{}", encoding
        for encoding in ("br", "zstd", "x", "gzip, br", "gzip;q=1", ", ".join(["gzip"] * 5)):
            request = request_bytes(body=packed, headers=f"Content-Encoding: {encoding}\r\n")
            answer = await ask(url, request)
            assert answer.error == (415, "unsupported_content_type"), encoding
            assert b"gzip or deflate" in answer.body
            assert answer.headers["accept-encoding"] == "gzip, deflate"
        chunks = chunked(packed[:5], packed[5:])
        headers = f"{CHUNKED}Content-Encoding: gzip\r\n"
        answer = await ask(url, request_bytes(body=chunks, headers=headers, length=None))
        assert answer.body == b"{}" + b" " * 900


@pytest.mark.parametrize("headers", ["", CONTINUE], ids=["sent", "waiting"])
@pytest.mark.parametrize("declared", [LIMIT + 1, 10**12, 2**63])
async def test_a_length_above_the_limit_is_refused_unread(declared: int, headers: str) -> None:
    async with reading() as url, wire(url) as connection:
        await connection.send(request_bytes(body=b"", length=declared, headers=headers))
        answer = await connection.answer(seconds=1)
        assert answer.error == (413, "body_too_large")


async def test_chunks_above_the_limit_are_refused_before_their_end() -> None:
    whole = chunked(b"x" * 600, b"y" * 600)
    for sent in (whole.removesuffix(b"0\r\n\r\n"), whole):
        async with reading() as url, wire(url) as connection:
            await connection.send(request_bytes(body=sent, headers=CHUNKED, length=None))
            assert (await connection.answer()).error == (413, "body_too_large")


async def test_bytes_behind_a_body_are_no_part_of_it() -> None:
    async with reading() as url, wire(url) as connection:
        await connection.send(request_bytes(body=b"{}" + b"x" * 5_000, length=2))
        # aiohttp refuses both where they came as one.
        answers = [await connection.answer()]
        if answers[0].status == 200:
            assert answers[0].body == b"{}"
            answers.append(await connection.answer())
        assert answers[-1].error == (400, "invalid_http")
        assert await connection.rest() == b""


@pytest.mark.parametrize("trickles", [False, True])
async def test_a_body_that_arrives_too_slowly_is_refused(trickles: bool) -> None:
    async with reading(seconds=0.3) as url, wire(url) as connection:
        await connection.send(request_bytes(body=b"{", length=50))

        async def trickle() -> None:
            while trickles:
                await asyncio.sleep(0.05)
                await connection.send(b" ")

        trickling = asyncio.create_task(trickle())
        assert (await connection.answer()).error == (400, "body_timeout")
        trickling.cancel()


@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\r\nlonger than five\r\n", b"-1\r\n"])
async def test_a_broken_body_is_refused_at_once(broken: bytes) -> None:
    async with reading(seconds=30) as url, wire(url) as connection:
        whole = chunked(b"{}").removesuffix(b"0\r\n\r\n")
        await connection.send(request_bytes(body=whole, headers=CHUNKED, length=None))
        await asyncio.sleep(0.05)
        await connection.send(broken)
        assert (await connection.answer(seconds=1)).error == (400, "invalid_body")
        assert await connection.rest() == b""


async def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    async with reading() as url, wire(url) as connection:
        await connection.send(request_bytes(body=b"", length=2, headers=CONTINUE))
        assert (await connection.answer(seconds=1)).status == 100
        await connection.send(b"{}")
        assert (await connection.answer(seconds=1)).body == b"{}"
        await connection.send(request_bytes(body=b"[]"))
        assert (await connection.answer(seconds=1)).body == b"[]"
        old = await ask(url, request_bytes(body=b"{}", version="1.0", headers=CONTINUE))
        assert (old.status, old.body) == (200, b"{}")  # HTTP/1.0 has no 100 Continue


# -- sending ------------------------------------------------------------------------------------

BODY = bytes(range(256)) * (40 * SLICE_BYTES // 256) + b"end"


def sending(
    body: bytes, record: RequestRecord, seconds: float = 30
) -> AbstractAsyncContextManager[str]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(body=body, headers={"Content-Type": "application/json"})
        return (await send(request, response, record, seconds, Turns(SLICES_AT_ONCE)))[0]

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


async def test_a_client_that_leaves_before_the_head_is_no_fault_of_the_gateway() -> None:
    record, wholes = RequestRecord(id="r", started=perf_counter()), list[bool]()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()  # as when the connection breaks; aiohttp is told a turn later
        response = web.Response(body=b"{}")
        sent, whole = await send(request, response, record, 30, Turns(SLICES_AT_ONCE), small=True)
        wholes.append(whole)
        return sent

    with capture_logs() as logs:
        async with serving(handle) as url, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(url)
            await until(lambda: bool(wholes))
    assert set(wholes) == {False}  # aiohttp's client tries a GET again
    assert logs == []
