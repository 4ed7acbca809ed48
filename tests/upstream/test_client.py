"""Every failure of an upstream over real sockets, and whether it is charged."""

import asyncio
import gc
import gzip
import logging
import os
import socket
import ssl
import struct
import threading
import time
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway import __version__
from gateway.config.settings import UpstreamSettings
from gateway.core.http_client import LARGE_BYTES
from gateway.core.secret import Secret
from gateway.core.upstream_errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)
from gateway.upstream.client import HttpUpstream
from gateway.upstream.port import Reply, Wanted
from tests.support.tls import Issued

KEY = "sk-upstream-CANARY"
BODY = b'{"prompt":"CANARY"}'
PATH = "/api/v1/images%2Fgenerations"
LIMIT = 10_000
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Line(HttpUpstream):
    """The client, with the settings of its calls, and the server that a test scripts."""

    def __init__(self, base_url: str, timeout: float = 10.0) -> None:
        self.settings = UpstreamSettings(
            base_url=base_url,
            path=PATH,
            api_key=Secret(KEY),
            connect_seconds=0.5,
            timeout_seconds=timeout,
            max_response_bytes=LIMIT,
        )
        self.connections = 0
        self.heads: list[bytes] = []

    async def ask(self, body: bytes = BODY) -> Reply:
        return await self.generate(body, "request-1", self.settings)

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Read one request to its end."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        assert f"Content-Length: {len(BODY)}\r\n".encode() in head
        assert await reader.readexactly(len(BODY)) == BODY


@asynccontextmanager
async def line(
    talk: Talk | bytes,
    *,
    scheme: str = "http",
    timeout: float = 10.0,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Line]:
    """A client of a server that talks like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client.connections += 1
        try:
            if isinstance(talk, bytes):
                await client.hear(reader)
                writer.write(talk)
                await writer.drain()
            else:
                await talk(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with Line(f"{scheme}://127.0.0.1:{port}", timeout) as client:
            yield client
    finally:
        listening.close()


async def reply_to(talk: Talk | bytes) -> Reply:
    """Return the reply of a call to a server that talks like this. It is called once."""
    async with line(talk) as upstream:
        try:
            return await upstream.ask()
        finally:
            assert upstream.connections == 1
            assert len(upstream.heads) <= 1


async def error_from(talk: Talk | bytes, timeout: float = 10.0) -> type[UpstreamError]:
    """Return the type of error that a call raises. It must not carry aiohttp's error."""
    async with line(talk, timeout=timeout) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.ask()
        assert upstream.connections <= 1  # a failed call is not sent again
    error = caught.value
    assert error.__cause__ is None
    assert "CANARY" not in f"{error!r} {error.__context__!r}"
    return type(error)


async def logged_cause(upstream: Line) -> tuple[str, str]:
    """Return cause and detail of the only log line of a call without a connection."""
    with capture_logs() as lines, pytest.raises(UpstreamUnreachable):
        await upstream.ask()
    (line,) = lines
    assert "CANARY" not in str(line)
    assert (line["event"], line["log_level"]) == ("upstream unreachable", "warning")
    assert line["id"] == "request-1"
    return line["cause"], line["detail"]


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# -- request and response -----------------------------------------------------------------------


async def test_request_head() -> None:
    async with line(OK) as upstream:
        reply = await upstream.ask()
    assert reply == Reply(200, {"content-length": "8"}, b'{"a": 1}')
    first, *lines = upstream.heads[0].decode().strip().split("\r\n")
    assert first == f"POST {PATH} HTTP/1.1"
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert headers["authorization"] == f"bearer {KEY}".lower()
    assert headers["x-request-id"] == "request-1"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == f"image-gateway/{__version__}"
    names = "accept accept-encoding authorization connection content-length content-type host"
    assert set(headers) == {*names.split(), "user-agent", "x-request-id"}


async def test_each_call_follows_its_own_settings() -> None:
    async with line(OK) as upstream, line(OK) as other:
        await upstream.ask()
        upstream.settings = replace(other.settings, api_key=Secret("second"), max_response_bytes=7)
        with pytest.raises(UpstreamUnknown) as too_long:
            await upstream.ask()
    assert too_long.value.upstream_status == 200
    assert [f"Bearer {KEY}".encode() in head for head in upstream.heads] == [True]
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


async def test_a_response_is_freed_without_the_garbage_collector() -> None:
    """Many calls hold megabytes each, so memory must not wait for a collection."""
    async with line(OK) as upstream:
        gc.disable()
        try:
            task = asyncio.create_task(upstream.ask())
            await task
            ended = weakref.ref(task)
            del task
            await asyncio.sleep(0)
            assert ended() is None
        finally:
            gc.enable()


async def test_cookies_are_not_kept() -> None:
    answer = response(b"{}", Set_Cookie="session=1")
    async with line(answer) as upstream:
        for _ in range(2):
            await upstream.ask()
    assert b"cookie" not in upstream.heads[1].lower()


async def test_a_proxy_in_the_environment_is_ignored() -> None:
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
    async with line(refuse, timeout=2) as upstream:
        reply = await upstream.ask(body)
    assert (reply.status, reply.body) == (400, b"no")


# -- one connection a call ----------------------------------------------------------------------


async def test_bytes_after_a_response_reach_no_other_request() -> None:
    async def talk_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        writer.write(OK + response(b"another team's"))
        await writer.drain()
        await upstream.hear(reader)

    async with line(talk_on) as upstream:
        for _ in range(3):
            assert (await upstream.ask()).body == b'{"a": 1}'
            await asyncio.sleep(0.05)
        assert upstream.connections == 3


# -- nothing was sent: free ---------------------------------------------------------------------


async def test_a_name_that_does_not_exist() -> None:
    async with Line("http://nowhere.invalid") as upstream:
        assert (await logged_cause(upstream))[0] == "dns"


async def test_a_port_without_a_listener() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with Line(f"http://127.0.0.1:{port}") as upstream:
            assert await logged_cause(upstream) == ("refused", "Connection refused")


@pytest.mark.parametrize("timeout", [10.0, 0.5])
async def test_a_server_too_busy_to_accept(timeout: float) -> None:
    """Connecting has its own timeout. It is free even if the call's deadline ends too."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(busy.getsockname())
        port = busy.getsockname()[1]
        async with Line(f"http://127.0.0.1:{port}", timeout) as upstream:
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
    async with line(talk, scheme="https") as upstream:
        assert (await logged_cause(upstream))[0] == cause


async def test_a_certificate_of_an_unknown_authority(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Issued().write(tmp_path))
    async with line(OK, scheme="https", context=context) as upstream:
        assert await logged_cause(upstream) == ("tls", "unable to get local issuer certificate")
    assert upstream.heads == []


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
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 5_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}!",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_cut_off(talk: Talk | bytes) -> None:
    assert await error_from(talk) is UpstreamCut


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("talk", [silence, drip])
async def test_one_deadline_for_the_whole_call(talk: Talk) -> None:
    began = asyncio.get_running_loop().time()
    assert await error_from(talk, timeout=0.3) is UpstreamTimeout
    assert 0.3 <= asyncio.get_running_loop().time() - began < 4


async def test_an_answer_that_comes_while_the_process_stands_still_is_used() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        time.sleep(0.9)  # noqa: ASYNC251 - as SIGSTOP or a suspended machine does
        writer.write(OK)
        await writer.drain()

    async with line(talk, timeout=0.5) as upstream:
        assert (await upstream.ask()).status == 200


async def test_closing_cuts_off_open_calls() -> None:
    async with line(silence) as upstream:
        call = asyncio.create_task(upstream.ask())
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

    async with line(wait) as upstream:
        call = asyncio.create_task(upstream.ask())
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(gone.wait(), 2)


# -- maximum size and encodings -----------------------------------------------------------------


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
    ],
)
async def test_a_success_that_is_too_long(talk: Talk | bytes) -> None:
    assert await error_from(talk) is UpstreamUnknown


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzipped(LIMIT + 1)),
        ("gzip", gzipped(9)[:-1]),
        ("gzip", b"{}"),
        ("deflate", b"{}"),
        ("br", b"{}"),
        ("utf-8", b"{}"),
        ("gzip", b""),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "400 No"])
async def test_a_body_that_cannot_be_inflated_is_left_as_it_is(
    encoding: str, data: bytes, status: str
) -> None:
    reply = await reply_to(response(data, status, Content_Encoding=encoding))
    assert (reply.status, reply.body) == (int(status[:3]), data)


async def test_a_failure_that_is_too_long_is_still_a_failure() -> None:
    reply = await reply_to(response(b"x" * (LIMIT + 1), "400 No"))
    assert (reply.status, reply.body) == (400, b"")


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("GZIP", gzipped(LIMIT)),
        ("gzip, identity", gzipped(LIMIT)),
        ("", gzipped(LIMIT)),
        ("deflate", zlib.compress(b"x" * LIMIT)),
        ("identity", b"x" * LIMIT),
    ],
)
async def test_supported_encodings(encoding: str, data: bytes) -> None:
    reply = await reply_to(response(data, Content_Encoding=encoding))
    assert reply.body == b"x" * LIMIT


# -- secrets ------------------------------------------------------------------------------------


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for talk in (OK, b"", b"CANARY\r\n\r\n", reset):
        async with line(talk) as upstream:
            try:
                await upstream.ask()
            except UpstreamError as error:
                logging.getLogger("test").exception("failed", exc_info=error)
    assert "CANARY" not in caplog.text


# -- streams ------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
PICTURE = b'event: image_generation.completed\ndata: {"b64_json":"QUJD"}\n\n'
PLAIN = b'{"data":[{"b64_json":"QUJD"}]}'


async def test_a_stream_is_read_to_its_end_or_its_mark() -> None:
    for answer in (STREAM + PICTURE, STREAM + PICTURE.rstrip(), STREAM + b": hi\n\n" + PICTURE):
        assert (await reply_to(answer)).body == PLAIN

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        writer.write(STREAM + PICTURE + b"data: [DONE]\n\n")
        await asyncio.sleep(60)

    async with line(stay, timeout=60) as upstream, asyncio.timeout(20):
        reply = await upstream.ask()
    assert (reply.body, reply.headers["content-type"]) == (PLAIN, "application/json")


ERROR = b'event: error\ndata: {"error":{"code":"moderation_blocked"}}\n\n'
JSON_HEAD = STREAM.replace(b"text/event-stream", b"application/json")


@pytest.mark.parametrize(
    "answer",
    [
        STREAM + PLAIN,
        STREAM + b"\n " + PLAIN,
        JSON_HEAD + PICTURE,
        JSON_HEAD + b": hi\n\n" + PICTURE,
        STREAM + gzip.compress(PICTURE),
        JSON_HEAD + gzip.compress(PICTURE),
        STREAM + gzip.compress(PLAIN),
        STREAM + gzip.compress(PICTURE + os.urandom(300))[:-100],
        STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 9000\r\n\r\n")
        + gzip.compress(PICTURE + os.urandom(300))[:-100],
        STREAM.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + PICTURE,
    ],
)
async def test_a_picture_counts_whatever_the_label_says(answer: bytes) -> None:
    assert (await reply_to(answer)).body.strip() == PLAIN


async def test_an_error_counts_whatever_the_label_says() -> None:
    error = b'{"error":{"code":"moderation_blocked"}}'
    for answer in (STREAM + error, JSON_HEAD + ERROR, STREAM + gzip.compress(ERROR)):
        assert (await reply_to(answer)).body == error


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("events", [ERROR, PICTURE])
async def test_a_stream_that_has_failed_or_has_all_pictures_is_over(
    events: bytes, stays: bool
) -> None:
    """Its connection may stay open, or be cut."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        writer.write(STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 9000\r\n\r\n") + events)
        await writer.drain()
        if stays:
            await asyncio.sleep(60)

    async with line(talk, timeout=60) as upstream, asyncio.timeout(20):
        reply = await upstream.generate(BODY, "request-1", upstream.settings, wanted=Wanted(1))
    assert reply.body in (PLAIN, b'{"error":{"code":"moderation_blocked"}}')


async def test_excess_that_comes_at_once_counts() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        for _ in range(2):
            writer.write((b"" if _ else STREAM) + PICTURE)
            await asyncio.sleep(0.01)
        await asyncio.sleep(60)

    async with line(talk, timeout=60) as upstream, asyncio.timeout(20):
        reply = await upstream.generate(BODY, "request-1", upstream.settings, wanted=Wanted(1))
    assert reply.body.count(b"QUJD") == 2


async def test_partial_images_are_passed_on_before_the_stream_ends() -> None:
    passed = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await upstream.hear(reader)
        writer.write(STREAM + PICTURE.replace(b"completed", b"partial_image"))
        await passed.wait()
        writer.write(PICTURE)
        await writer.drain()

    async with line(wait) as upstream:
        partial = []

        def on_partial(event: bytes) -> None:
            partial.append(event)
            passed.set()

        reply = await upstream.generate(
            BODY, "request-1", upstream.settings, wanted=Wanted(1, 1, on_partial)
        )
    assert (partial, reply.body) == ([b'{"b64_json":"QUJD"}'], PLAIN)


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(STREAM.replace(b"\r\n\r\n", b"\r\nContent-Length: 9000\r\n\r\n") + PICTURE)
    await writer.drain()


async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await break_off(reader, writer)
    await asyncio.sleep(60)


async def never_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(STREAM + PICTURE)
    while not writer.is_closing():
        writer.write(b"data: " + b"x" * 1_000)
        await writer.drain()


@pytest.mark.parametrize("talk", [break_off, fall_silent, never_end])
async def test_a_picture_that_was_completed_counts_whatever_follows(talk: Talk) -> None:
    async with line(talk, timeout=0.5) as upstream:
        assert (await upstream.ask()).body == PLAIN


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (STREAM[:-2] + b"Content-Length: 9\r\n\r\n: hi\n", UpstreamCut),
        (CHUNKED[:-2] + b"Content-Type: text/event-stream\r\n\r\n5\r\n: hi\n", UpstreamCut),
    ],
)
async def test_a_stream_that_breaks_off_before_is_cut(
    answer: bytes, error: type[UpstreamError]
) -> None:
    assert await error_from(answer) is error


async def test_a_stream_that_is_too_long_counts_as_far_as_it_fits() -> None:
    long = PICTURE.replace(b"QUJD", b"QUJD" * LIMIT)
    assert await error_from(STREAM + long) is UpstreamUnknown
    assert (await reply_to(STREAM + PICTURE + long)).body == PLAIN


async def test_a_stream_without_a_picture_is_an_answer_without_one() -> None:
    for events in (b"", b": hi\n\n", PICTURE.replace(b"completed", b"started")):
        assert (await reply_to(STREAM + events)).body == b""
    error = b'{"error":{"code":"x"}}'
    assert (await reply_to(STREAM + b"data: " + error + b"\n\n")).body == error


# -- large responses ----------------------------------------------------------------------------


def _serve_once(listening: socket.socket, response: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(response)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_response_that_arrived_in_time_counts_however_long_it_is_joined(
    coding: str,
) -> None:
    text = os.urandom(LARGE_BYTES) * 2
    body = gzip.compress(text, 1) if coding == "gzip" else text
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    worker = ThreadPoolExecutor(1)  # the only thread, and it has other work
    asyncio.get_running_loop().set_default_executor(worker)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with Line(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            settings = replace(
                client.settings, max_response_bytes=2 * len(text), timeout_seconds=1.0
            )
            # It may answer from a thread of its own, and the work begins before the answer.
            serving = threading.Thread(
                target=_serve_once, args=(listening, head.encode() + body), daemon=True
            )
            serving.start()
            work = asyncio.to_thread(time.sleep, 2.0)
            _, reply = await asyncio.gather(work, client.generate(BODY, "request-1", settings))
            serving.join(5)
    assert reply.body == text


async def test_a_large_response_is_joined_beside_the_event_loop() -> None:
    """New memory for 60 MB takes tens of milliseconds, in which no other request went on."""
    large = os.urandom(1_000_000) * 60
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.to_thread(_serve_once, listening, head + large)
        async with Line(f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            settings = replace(client.settings, max_response_bytes=len(large))
            async with asyncio.TaskGroup() as group:
                group.create_task(serving)
                watching = group.create_task(watch())
                reply = await client.generate(BODY, "request-1", settings)
                await asyncio.sleep(0.01)  # the watch sees the last step, too
                watching.cancel()
    assert reply.body == large
    pieces = [large[at : at + 100_000] for at in range(0, len(large), 100_000)]
    before = time.thread_time()
    joined = b"".join(pieces)
    joining = time.thread_time() - before
    assert len(joined) == len(large)
    assert longest < joining / 3
