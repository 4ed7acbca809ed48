"""Every way in which an upstream can fail, over real sockets: what is free and what is charged."""

import asyncio
import gc
import gzip
import logging
import os
import socket
import ssl
import struct
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.config.settings import UpstreamSettings
from gateway.core.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)
from gateway.core.secret import Secret
from gateway.upstream.client import HttpUpstream
from gateway.upstream.port import Reply

KEY = "sk-upstream-CANARY"
BODY = b'{"prompt":"CANARY"}'
PATH = "/api/v1/images%2Fgenerations"
LIMIT = 10_000
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeiEXp1/TiKwPvBo7
WvIpBe64PHE2L9jRdqluJ5yQocOhRANCAATc1RtWGM537JJZM5vZBikJCkQLnzLs
8pgUeUkOTHDQjeiY07Qh87YNH7IlFWxHbLXSgGPujK/GLLwejwW1Ke0b
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUARWQXAtvKNinH6YmNU5a9st9evAwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjE3MTkxM1oYDzIxMjYxMDI5
MTcxOTEzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATc1RtWGM537JJZM5vZBikJCkQLnzLs8pgUeUkOTHDQjeiY07Qh87YN
H7IlFWxHbLXSgGPujK/GLLwejwW1Ke0bo28wbTAdBgNVHQ4EFgQUffdH/Bxj2AbP
GYy1dk3CbeGH7cswHwYDVR0jBBgwFoAUffdH/Bxj2AbPGYy1dk3CbeGH7cswDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgag8OX/Nz5zpXIM8Kw5EA6QrAbWjpCV/i8sOcaemYFigCIQD4
BT4sVEczYSI3+fOJlSsv9/P58ybmQZ5CGbTha4dFQA==
-----END CERTIFICATE-----
"""
"""For localhost, signed by itself: nobody trusts it, so its key is no secret."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A socket that does what a test says, and keeps the requests that it was sent."""

    def __init__(self, talk: Talk | bytes) -> None:
        self._talk = self._answering(talk) if isinstance(talk, bytes) else talk
        self.connections = 0
        self.heads: list[bytes] = []
        self.port = 0

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Read one request to its end."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        assert f"Content-Length: {len(BODY)}\r\n".encode() in head
        assert await reader.readexactly(len(BODY)) == BODY

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    def _answering(self, answer: bytes) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.hear(reader)
            writer.write(answer)
            await writer.drain()

        return talk


@asynccontextmanager
async def serving(
    talk: Talk | bytes, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(talk)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


class Line:
    """The client, and the settings of all its calls."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.settings = settings
        self._client = HttpUpstream()
        self.close = self._client.close

    async def generate(self, body: bytes, request_id: str) -> Reply:
        return await self._client.generate(body, request_id, self.settings)


@asynccontextmanager
async def calling(
    port: int, *, scheme: str = "http", host: str = "127.0.0.1", timeout: float = 10.0
) -> AsyncIterator[Line]:
    line = Line(
        UpstreamSettings(
            base_url=f"{scheme}://{host}:{port}",
            path=PATH,
            api_key=Secret(KEY),
            connect_seconds=0.5,
            timeout_seconds=timeout,
            max_response_bytes=LIMIT,
        )
    )
    try:
        yield line
    finally:
        await line.close()


async def reply_to(talk: Talk | bytes, timeout: float = 10.0) -> Reply:
    """What a call makes of a server that talks like this. It must have sent one request at most."""
    async with serving(talk) as server, calling(server.port, timeout=timeout) as upstream:
        try:
            return await upstream.generate(BODY, "request-1")
        finally:
            assert server.connections == 1
            assert len(server.heads) <= 1


async def error_from(
    talk: Talk | bytes, timeout: float = 10.0, **address: str
) -> type[UpstreamError]:
    """The kind of error that a call ends with, which must carry nothing of aiohttp's."""
    async with serving(talk) as server, calling(server.port, timeout=timeout, **address) as up:
        with pytest.raises(UpstreamError) as caught:
            await up.generate(BODY, "request-1")
    error = caught.value
    assert error.__cause__ is None
    assert "CANARY" not in f"{error!r} {error.__context__!r}"
    return type(error)


async def logged_cause(upstream: Line) -> tuple[str, str]:
    """What the log's only line says of a call that gets no connection."""
    with capture_logs() as lines, pytest.raises(UpstreamUnreachable):
        await upstream.generate(BODY, "request-1")
    (line,) = lines
    assert "CANARY" not in str(line)
    assert (line["event"], line["log_level"]) == ("upstream unreachable", "warning")
    assert line["id"] == "request-1"
    return line["cause"], line["detail"]


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- what is sent and what comes back -----------------------------------------------------------


async def test_what_is_sent() -> None:
    async with serving(OK) as server, calling(server.port) as upstream:
        reply = await upstream.generate(BODY, "request-1")
    assert reply == Reply(200, {"content-length": "8"}, b'{"a": 1}')
    first, *lines = server.heads[0].decode().strip().split("\r\n")
    assert first == f"POST {PATH} HTTP/1.1"
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers["authorization"] == f"bearer {KEY}".lower()
    assert headers["x-request-id"] == "request-1"
    assert headers["content-type"] == "application/json"
    assert set(headers) == {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-request-id",
    }


async def test_each_call_follows_its_own_settings() -> None:
    async with serving(OK) as server, serving(OK) as other, calling(server.port) as upstream:
        await upstream.generate(BODY, "request-1")
        upstream.settings = replace(
            upstream.settings,
            base_url=f"http://127.0.0.1:{other.port}",
            api_key=Secret("second"),
            max_response_bytes=7,
        )
        with pytest.raises(UpstreamUnknown):
            await upstream.generate(BODY, "request-1")
    assert [f"Bearer {KEY}".encode() in head for head in server.heads] == [True]
    assert [b"Bearer second" in head for head in other.heads] == [True]


async def test_headers_have_lower_case_names_and_their_first_value() -> None:
    reply = await reply_to(
        b"HTTP/1.1 429 No\r\nRETRY-After: 7\r\nretry-after: 8\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert (reply.status, reply.body) == (429, b"{}")
    assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b'{"a": 1}'),
        (CHUNKED + b"2\r\n{}\r\n1\r\n!\r\n0\r\n\r\n", 200, b"{}!"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + OK, 200, b'{"a": 1}'),
        (b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101, b""),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", 204, b""),
        (response(b"", "307 Elsewhere", Location="/other"), 307, b""),
        (response(b"no", "500 Oops"), 500, b"no"),
        (response(b"x" * LIMIT), 200, b"x" * LIMIT),
    ],
)
async def test_whole_responses(answer: bytes, status: int, body: bytes) -> None:
    reply = await reply_to(answer)
    assert (reply.status, reply.body) == (status, body)


async def test_an_answer_is_let_go_without_the_garbage_collector() -> None:
    """Megabytes that wait for it are megabytes that many calls together have no room for."""
    async with serving(OK) as server, calling(server.port) as upstream:
        gc.disable()
        try:
            task = asyncio.create_task(upstream.generate(BODY, "request-1"))
            await task
            ended = weakref.ref(task)
            del task
            await asyncio.sleep(0)
            assert ended() is None
        finally:
            gc.enable()


async def test_cookies_are_not_kept() -> None:
    answer = response(b"{}", Set_Cookie="session=1")
    async with serving(answer) as server, calling(server.port) as upstream:
        for _ in range(2):
            await upstream.generate(BODY, "request-1")
    assert b"cookie" not in server.heads[1].lower()


async def test_a_proxy_in_the_environment_is_passed_over() -> None:
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:1"
    try:
        assert (await reply_to(OK)).status == 200
    finally:
        del os.environ["HTTP_PROXY"]


async def test_a_refusal_before_the_request_was_read() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"no", "400 No"))
        await writer.drain()
        await asyncio.sleep(5)

    body = b"x" * 2**20
    async with serving(refuse) as server, calling(server.port, timeout=2) as upstream:
        reply = await upstream.generate(body, "request-1")
    assert (reply.status, reply.body) == (400, b"no")


# -- one connection a call ----------------------------------------------------------------------


async def test_what_is_said_after_an_answer_reaches_no_other_request() -> None:
    server: Server

    async def talk_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.hear(reader)
        writer.write(OK + response(b"another team's"))
        await writer.drain()
        await server.hear(reader)

    async with serving(talk_on) as server, calling(server.port) as upstream:
        for _ in range(3):
            assert (await upstream.generate(BODY, "request-1")).body == b'{"a": 1}'
            await asyncio.sleep(0.05)
        assert server.connections == 3


async def test_an_upstream_that_closes_after_each_answer_cuts_nobody_off() -> None:
    async with serving(OK) as server, calling(server.port) as upstream:
        for _ in range(20):
            assert (await upstream.generate(BODY, "request-1")).status == 200
    assert len(server.heads) == 20


# -- nothing was sent: free ---------------------------------------------------------------------


async def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with calling(port) as upstream:
            assert await logged_cause(upstream) == ("refused", "Connection refused")


async def test_a_name_that_does_not_exist() -> None:
    assert await error_from(OK, host="nowhere.invalid") is UpstreamUnreachable
    async with calling(1, host="nowhere.invalid") as upstream:
        assert (await logged_cause(upstream))[0] == "dns"


@pytest.mark.parametrize("timeout", [10.0, 0.5])
async def test_a_server_too_busy_to_accept(timeout: float) -> None:
    """Connecting has its own bound, and is free even where the call's time ends with it."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(busy.getsockname())
        async with calling(busy.getsockname()[1], timeout=timeout) as upstream:
            assert (await logged_cause(upstream))[0] == "timeout"
        for each in waiting:
            each.close()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


@pytest.mark.parametrize(
    ("talk", "cause"), [(OK, "timeout"), (silence, "timeout"), (hang_up, "network")]
)
async def test_a_server_that_does_not_speak_tls(talk: Talk | bytes, cause: str) -> None:
    assert await error_from(talk, scheme="https") is UpstreamUnreachable
    async with serving(talk) as server, calling(server.port, scheme="https") as upstream:
        assert (await logged_cause(upstream))[0] == cause


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    (tmp_path / "pair.pem").write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    async with serving(OK, context) as server, calling(server.port, scheme="https") as upstream:
        assert await logged_cause(upstream) == ("tls", "self-signed certificate")
    assert server.heads == []


# -- something may have been sent: charged ------------------------------------------------------


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@pytest.mark.parametrize(
    "talk",
    [
        hang_up,
        reset,
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 20\r\n\r\n{}",
        CHUNKED + b"5\r\nabc",
        CHUNKED + b"ZZ\r\nabc",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_cut_off(talk: Talk | bytes) -> None:
    assert await error_from(talk) is UpstreamCut


async def test_a_cut_request_is_not_sent_again() -> None:
    async with serving(b"") as server, calling(server.port) as upstream:
        for _ in range(5):
            with pytest.raises(UpstreamCut):
                await upstream.generate(BODY, "request-1")
    assert len(server.heads) == server.connections == 5


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("talk", [silence, drip])
async def test_one_deadline_for_the_whole_call(talk: Talk) -> None:
    began = asyncio.get_running_loop().time()
    assert await error_from(talk, timeout=0.3) is UpstreamTimeout
    assert 0.3 <= asyncio.get_running_loop().time() - began < 1


async def test_closing_cuts_off_what_is_under_way() -> None:
    async with serving(silence) as server, calling(server.port) as upstream:
        call = asyncio.create_task(upstream.generate(BODY, "request-1"))
        await asyncio.sleep(0.1)
        await upstream.close()
        with pytest.raises(UpstreamCut):
            await call


async def test_a_cancelled_call_hangs_up() -> None:
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2**20)
        assert await reader.read() == b""
        gone.set()

    async with serving(wait) as server, calling(server.port) as upstream:
        call = asyncio.create_task(upstream.generate(BODY, "request-1"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(gone.wait(), 2)


# -- the size bound and encodings ---------------------------------------------------------------


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED)
    while not writer.is_closing():
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


def gzipped(size: int) -> bytes:
    return gzip.compress(b"x" * size, mtime=0)


@pytest.mark.parametrize(
    "talk",
    [
        flood,
        response(b"x" * (LIMIT + 1)),
        response(gzipped(LIMIT + 1), Content_Encoding="gzip"),
        response(gzipped(9)[:-1], Content_Encoding="gzip"),
        response(b"{}", Content_Encoding="br"),
        response(b"{}", Content_Encoding="identity, gzip"),
    ],
)
async def test_a_success_that_cannot_be_read(talk: Talk | bytes) -> None:
    assert await error_from(talk) is UpstreamUnknown


@pytest.mark.parametrize(
    "answer",
    [
        response(b"x" * (LIMIT + 1), "400 No"),
        response(b"{}", "400 No", Content_Encoding="br"),
        response(b"", "400 No", Content_Encoding="gzip"),
    ],
)
async def test_a_failure_that_cannot_be_read_is_still_a_failure(answer: bytes) -> None:
    reply = await reply_to(answer)
    assert (reply.status, reply.body) == (400, b"")


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("GZIP", gzipped(LIMIT)),
        ("deflate", zlib.compress(b"x" * LIMIT)),
        ("identity", b"x" * LIMIT),
    ],
)
async def test_encodings_that_are_undone(encoding: str, data: bytes) -> None:
    reply = await reply_to(response(data, Content_Encoding=encoding))
    assert reply.body == b"x" * LIMIT


# -- secrets ------------------------------------------------------------------------------------


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for talk in (OK, b"", b"CANARY\r\n\r\n", reset):
        async with serving(talk) as server, calling(server.port) as upstream:
            try:
                await upstream.generate(BODY, "request-1")
            except UpstreamError as error:
                logging.getLogger("test").exception("failed", exc_info=error)
    assert "CANARY" not in caplog.text
