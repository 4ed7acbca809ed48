"""The HTTP server: unreadable requests, defects, and connections kept and closed."""

import asyncio
import io
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from aiohttp import web

from gateway.config.settings import ServerSettings
from gateway.telemetry.metrics import UNREADABLE as UNREADABLE_OUTCOMES
from gateway.web.http_server import MAX_HEAD_BYTES, READ_AHEAD_BYTES, Listener
from tests.support.logs import logging_to
from tests.support.raw import ask, refuses, request_bytes, wire, with_trailer
from tests.support.rig import Rig
from tests.support.serving import serving

CANARY = secrets.token_hex(12)
THING = request_bytes(target="/thing")


async def echo(request: web.BaseRequest) -> web.Response:
    return web.json_response({"found": f"{request.method} {request.rel_url.raw_path}"})


async def defective(request: web.BaseRequest) -> web.Response:
    raise RuntimeError(f"a defect with {CANARY}")


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    """The lines that the process logs."""
    stream = io.StringIO()
    with logging_to(stream):
        yield stream


HEADERS = {
    "cr in a value": "X-Key: CANARY\rb",
    "lf in a value": "X-Key: CANARY\nb",
    "nul in a value": "Authorization: Bearer CANARY\0b",
    "nul in a name": "X\0CANARY: b",
    "a folded line": "X-Key: a\r\n CANARY",
    "a blank before the colon": "X-Key : CANARY",
    "no colon": "CANARY",
    "a long value": f"Authorization: Bearer {'CANARY' * 800}",
    "a long name": f"{'CANARY' * 800}: b",
    "many lines": "\r\n".join(f"X-{n}: CANARY" for n in range(200)),
    "two lengths": "X-Key: CANARY\r\nContent-Length: 3",
    "a length and chunks": "X: CANARY\r\nTransfer-Encoding: chunked",
    "two hosts": "Host: CANARY",
}
LINES = (
    *("BREW /CANARY HTTP/1.1", "get /CANARY HTTP/1.1", "GET /CANARY b HTTP/1.1"),
    *("GET CANARY HTTP/1.1", "GET /CANARY\x80\xff HTTP/1.1", "GET http:///CANARY HTTP/1.1"),
    *("GET http://[::1/CANARY HTTP/1.1", "GET /CANARY HTTP/11.1", "GET /CANARY XTTP/1.1"),
    *("\x16\x03\x01\x02CANARY", "PRI * HTTP/2.0 CANARY", "CANARY"),
)
UNREADABLE = {
    **{name: request_bytes(headers=f"{lines}\r\n") for name, lines in HEADERS.items()},
    **{line: f"{line}\r\nHost: x\r\n\r\n".encode("latin-1") for line in LINES},
    "a long target": f"GET /{400 * 'CANARY'} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "no host": b"GET /CANARY HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_an_unreadable_request_gets_our_error_and_no_echo(
    name: str, logs: io.StringIO
) -> None:
    error = (431, "headers_too_large") if "long" in name else (400, "invalid_http")
    async with serving(echo) as url, wire(url) as connection:
        await connection.send(UNREADABLE[name].replace(b"CANARY", CANARY.encode()))
        answer = await connection.answer()
        assert answer.error == error
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["server"] == "image-gateway"
        assert CANARY.encode() not in answer.body
        assert await connection.rest() == b""
    lines = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert [(line["event"], line["code"]) for line in lines] == [("request unreadable", error[1])]
    assert CANARY not in logs.getvalue()


async def seen_headers(request: web.BaseRequest) -> web.Response:
    await request.read()
    return web.json_response(dict(request.headers))


@pytest.mark.parametrize("pause", [0.0, 0.2], ids=["in one segment", "after the answer"])
async def test_nothing_of_a_chunked_request_reaches_the_next(pause: float) -> None:
    async with serving(seen_headers) as url, wire(url) as connection:
        await connection.send(with_trailer(b"X-Trailer: mine"))
        if pause:
            assert "X-Trailer" not in json.loads((await connection.answer()).body)
        await connection.send(THING)
        rest = await connection.rest()
    assert rest.count(b"HTTP/1.1 200") == (0 if pause else 1)
    assert b"X-Trailer" not in rest


async def test_a_defect_is_answered_and_logged_without_its_text(logs: io.StringIO) -> None:
    async with serving(defective) as url:
        answer = await ask(url, request_bytes(headers=f"X-Key: {CANARY}\r\n"))
    assert answer.error == (500, "internal_error")
    assert answer.headers["x-should-retry"] == "false"
    (line,) = [json.loads(line) for line in logs.getvalue().splitlines()]
    assert line["event"] == "request failed"
    assert line["failure"] == "RuntimeError"
    assert line["places"][-1].endswith("defective")
    assert CANARY not in logs.getvalue()
    assert CANARY.encode() not in answer.body


async def test_garbage_behind_a_request_does_not_disturb_that_request() -> None:
    release = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        await request.content.read()
        await release.wait()
        return web.json_response({"found": "slow"})

    async with serving(slow) as url, wire(url) as connection:
        await connection.send(request_bytes())
        await asyncio.sleep(0.05)
        await connection.send(b"\0\0\0\r\n\r\n")
        await asyncio.sleep(0.05)
        release.set()
        assert (await connection.answer()).status == 200
        assert (await connection.answer()).error == (400, "invalid_http")
        assert await connection.rest() == b""


async def test_http_1_0_is_closed_without_keep_alive() -> None:
    async with serving(echo) as url:
        async with wire(url) as connection:
            await connection.send(request_bytes(target="/thing", version="1.0"))
            assert (await connection.answer()).status == 200
            assert await connection.rest() == b""
        async with wire(url) as connection:
            stay = "Connection: keep-alive\r\n"
            for _ in range(2):
                await connection.send(request_bytes(target="/thing", version="1.0", headers=stay))
                assert (await connection.answer()).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /thing HTTP/1.1\r\nHost: x\r\nX-Slow: ", THING])
async def test_an_idle_or_slow_connection_is_closed(sent: bytes) -> None:
    async with serving(echo, keepalive_seconds=0.3) as url, wire(url) as connection:
        await connection.send(sent)
        if sent == THING:
            assert (await connection.answer()).status == 200
        assert await connection.is_open(0.15)
        assert await connection.rest(2.0) == b""


@pytest.mark.parametrize("first", [b"", THING], ids=["a new connection", "a kept one"])
async def test_a_head_that_comes_byte_by_byte_ends_in_time(first: bytes) -> None:
    async with serving(echo, head_seconds=0.3) as url, wire(url) as connection:
        if first:
            await connection.send(first)
            await connection.answer()
            assert await connection.is_open(0.6)  # an idle connection has no head to wait for
        began = time.monotonic()
        await connection.send(b"GET /thing HTTP/1.1\r\nX-Slow: ")
        while await connection.is_open(0.02):
            await connection.send(b"a")
            assert time.monotonic() - began < 5
        assert time.monotonic() - began > 0.25


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """A port whose requests are answered after a moment."""

    async def slow(request: web.BaseRequest) -> web.Response:
        await request.read()
        await asyncio.sleep(0.05)
        return web.json_response({"found": "slow"})

    made = Listener(slow, ServerSettings())
    yield made
    await made.close()


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("sent", ["before", "after"])
async def test_a_connection_made_just_before_the_port_closes_is_answered(
    listener: Listener, turns: int, sent: str
) -> None:
    """The server may have got as far as the kernel, the event loop, or aiohttp with it."""
    host, _, port = (await listener.open("127.0.0.1", 0)).removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as made:
        if sent == "before":
            made.sendall(THING)
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.refuse_newcomers()
        if sent == "after":
            await asyncio.sleep(0.01)
            made.sendall(THING)
        made.settimeout(10)
        answer = await asyncio.to_thread(made.recv, 4_096)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"Connection: close" in answer
    assert await refuses(f"http://{host}:{port}")


async def test_a_port_that_closes_waits_for_bodies_and_not_for_idle_connections(
    listener: Listener,
) -> None:
    url = await listener.open("127.0.0.1", 0)
    body = b'{"prompt": "slow"}'
    async with wire(url) as new, wire(url) as kept, wire(url) as sending, wire(url) as head:
        await kept.send(THING)
        assert (await kept.answer()).status == 200
        await sending.send(request_bytes(body=body[:5], length=len(body)))
        await head.send(THING[:20])
        await asyncio.sleep(0.05)
        await listener.refuse_newcomers()
        assert await kept.rest() == b""
        assert await new.rest() == b""
        await asyncio.sleep(1.5)
        await sending.send(body[5:])
        await head.send(THING[20:])
        for connection in (sending, head):
            assert (await connection.answer()).headers["connection"] == "close"
            assert await connection.rest() == b""


GET = request_bytes(method="GET", target="/thing", body=b"", length=None)


@pytest.mark.parametrize("first", [THING, GET], ids=["with a body", "without a body"])
@pytest.mark.parametrize("part", [b"G", b"GET /thing HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_a_head_that_begins_in_the_segment_before_ends_in_time(
    first: bytes, part: bytes
) -> None:
    async with serving(echo, head_seconds=0.3) as url, wire(url) as connection:
        await connection.send(first + part)
        assert (await connection.answer()).status == 200
        assert await connection.rest() == b""


async def test_a_head_in_two_segments_is_served(logs: io.StringIO) -> None:
    async with serving(echo, head_seconds=0.6) as url, wire(url) as connection:
        for _ in range(3):
            await connection.send(THING + THING[:20])
            assert (await connection.answer()).status == 200
            await asyncio.sleep(0.2)
            await connection.send(THING[20:])
            assert (await connection.answer()).status == 200
        await connection.send(THING + b"\r\n")  # an empty line is no head
        assert (await connection.answer()).status == 200
        assert await connection.is_open(1.2)
    assert logs.getvalue() == ""


@pytest.mark.parametrize("size", [200_000, 5_000_000])
async def test_an_answer_that_nobody_reads_ends_its_connection(size: int) -> None:
    async def large(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        server = request.transport.get_extra_info("socket")
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        return web.Response(body=bytes(size))

    async with serving(large, unread_seconds=0.4) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.connect((host, int(port)))
            client.sendall(THING)
            await asyncio.sleep(1.5)
            client.settimeout(5)
            read = 0
            with suppress(ConnectionResetError):
                while data := await asyncio.to_thread(client.recv, 65_536):
                    read += len(data)
            assert read < size


async def test_an_endless_head_is_refused_and_counted(rig: Rig) -> None:
    line = b"X-Long: " + b"a" * 8_000 + b"\r\n"
    async with wire(rig.url) as connection:
        await connection.send(b"POST /v1/images/generations HTTP/1.1\r\nHost: h\r\n")
        for _ in range(MAX_HEAD_BYTES // len(line) + 1):
            await connection.send(line)
            await asyncio.sleep(0.005)
        answer = await connection.answer()
        assert answer.status == 431
        assert b'"headers_too_large"' in answer.body
        assert await connection.rest() == b""
    for headers in (f"X: {'a' * 20_000}\r\n", "X : a\r\n"):
        await ask(rig.url, request_bytes(headers=headers))
    counts = rig.gateway.metrics.registry.get_sample_value
    names = [{"team": "", "outcome": outcome} for outcome in UNREADABLE_OUTCOMES]
    assert [counts("gateway_requests_total", labels) for labels in names] == [2, 1]


async def test_a_body_that_nobody_reads_takes_little_memory() -> None:
    held = list[int]()

    async def wait(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.5)
        held.append(request.content.total_bytes)
        return web.Response()

    async with serving(wait) as url, wire(url) as connection:
        sending = asyncio.create_task(connection.send(request_bytes(body=bytes(2_000_000))))
        assert (await connection.answer()).status == 200
        sending.cancel()
    # One reading of what has arrived, which the event loop limits to 256 KiB.
    assert 0 < held[0] <= 2**18 + READ_AHEAD_BYTES
