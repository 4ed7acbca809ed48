"""A gateway as a process: its signals, its log, and starts that fail."""

import asyncio
import json
import os
import pty
import random
import re
import shutil
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from gateway.server.run import ECHO_SECONDS
from gateway.upstream.sandbox import Sandbox
from tests.support.environment import CLEAN
from tests.support.events import events_of
from tests.support.process import Program, program
from tests.support.raw import refuses, wire
from tests.support.redis import free_port
from tests.support.rig import UPSTREAM_KEY
from tests.support.steps import books_in, drawing, key_in, until
from tests.support.tools import ROOT

MANY = 1_000
"""Lines of requests: several times the capacity of a pipe."""

_STARTED = re.compile(r'"public":"([^"]+)"')


# -- starting -----------------------------------------------------------------------------------


async def test_a_failed_start_is_one_line_and_leaves_nothing_running(tmp_path: Path) -> None:
    """Nor does it leave a new pepper or database behind."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for option in ("SERVER_PORT", "SERVER_ADMIN_PORT"):
            code, out, err = await Program(tmp_path, **{option: port}).run("serve", "--demo")
            assert (code, out) == (1, "")
            (line,) = err.splitlines()
            assert line.startswith(f"Error: Port {port} on 127.0.0.1 is in use: ")
            assert not (tmp_path / "data").exists()


async def test_several_hosts_share_a_port(tmp_path: Path) -> None:
    async with program(tmp_path, SERVER_HOST="::", SERVER_ADMIN_HOST="::1,127.0.0.1") as gateway:
        await gateway.start("serve", "--demo")
        banner = await gateway.printed("Ctrl-C stops it.")
        await gateway.listening()  # its log may come after what it prints
        line, *_ = map(json.loads, gateway.err.splitlines())
        public, admin = line["public"].split(), line["admin"].split()
        port, admin_port = (urls[0].rpartition(":")[2] for urls in (public, admin))
        assert public == [f"http://[::]:{port}", f"http://0.0.0.0:{port}"]
        assert admin == [f"http://[::1]:{admin_port}", f"http://127.0.0.1:{admin_port}"]
        assert f"Base URL   http://127.0.0.1:{port}/v1\n" in banner
        assert f"Dashboard  http://[::1]:{admin_port}/\n" in banner
        key = re.search(r"sk-gw-\w+", banner)
        assert key is not None
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}/v1/images/generations"
            headers = {"Authorization": f"Bearer {key[0]}"}
            images = await session.post(url, headers=headers, json={"prompt": "an apple"})
            assert [*(await images.json())["data"][0]] == ["b64_json"]
            body = {"prompt": "a pear", "stream": True, "partial_images": 1}
            stream = await session.post(url, headers=headers, json=body)
            kinds = [event["type"] for event in events_of(await stream.read())]
            assert kinds == ["image_generation.partial_image", "image_generation.completed"]
            for host in ("[::1]", "127.0.0.1"):
                assert (await session.get(f"http://{host}:{port}/v1/models")).status == 401
                assert (await session.get(f"http://{host}:{admin_port}/healthz")).status == 200
        assert await gateway.terminate() == 0


async def test_a_host_of_several_that_is_taken_is_named(tmp_path: Path) -> None:
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as taken:
        port = str(taken.getsockname()[1])
        environ = {"SERVER_PORT": port, "SERVER_HOST": "127.0.0.1,::1"}
        code, _, err = await Program(tmp_path, **environ).run("serve", "--demo")
    assert code == 1
    assert err.startswith(f"Error: Port {port} on ::1 is in use: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_at_any_moment_of_the_start_ends_it(
    tmp_path: Path, number: signal.Signals, repeats: int
) -> None:
    async with program(tmp_path) as gateway:
        for _ in range(repeats):
            await gateway.start("serve", "--demo")
            await asyncio.sleep(random.uniform(0.15, 0.7))
            gateway.send(number)
            ended = await gateway.ended(60)
            assert ended in (0, 1, -number)
            shutil.rmtree(tmp_path / "data", ignore_errors=True)


async def test_sighup_during_the_start_does_not_end_it(tmp_path: Path) -> None:
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--sandbox")
        await until(lambda: _ignores_hang_ups(gateway.pid), 60)
        gateway.send(signal.SIGHUP)
        url, admin = await gateway.listening()
        await ask(url, 200)
        async with wire(admin) as connection:
            await connection.send(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n")
            metrics = (await connection.answer()).body.decode()
        assert "gateway_log_lines_dropped_total 0.0" in metrics.splitlines()
        assert await gateway.terminate() == 0
        # Without a demo, the sandbox prints nothing and creates no key.
        assert gateway.out == ""
        assert (tmp_path / "data" / "sandbox.db").exists()
        assert not (tmp_path / "data" / "demo.key").exists()
        assert_complete(gateway.err, 200)


def _ignores_hang_ups(pid: int) -> bool:
    (ignored,) = re.findall(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(ignored, 16) & 1 << signal.SIGHUP - 1)


# -- stopping -----------------------------------------------------------------------------------


async def test_a_terminal_shows_why_the_stop_waits_and_a_second_signal_exits_at_once(
    tmp_path: Path,
) -> None:
    master, slave = pty.openpty()
    shown = bytearray()
    asyncio.get_running_loop().add_reader(master, lambda: shown.extend(os.read(master, 65_536)))
    environ = {
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": "sqlite:gateway.db",
        "KEYS_PEPPER_FILE": "pepper",
        "SERVER_DRAIN_SECONDS": "20.5",
        "LOG_FORMAT": "json",
    }
    async with (
        Sandbox(drawing(latency=30)) as upstream,
        program(tmp_path, UPSTREAM_BASE_URL=upstream.url, **environ) as gateway,
    ):
        await gateway.start("serve", stderr=slave)
        await until(lambda: b'"started"' in shown, 60)
        (url,) = re.findall(r'"public":"(http://[0-9.:]+)"', shown.decode())
        headers = {"Authorization": f"Bearer {await key_in(tmp_path)}"}
        async with aiohttp.ClientSession(base_url=url, headers=headers) as session:
            body = {"prompt": "slow"}
            waiting = asyncio.create_task(session.post("/v1/images/generations", json=body))
            await until(lambda: upstream.counts.in_flight == 1)
            gateway.send(signal.SIGINT)
            gateway.send(signal.SIGTERM)  # repeats it, as supervisors that signal a group do
            await asyncio.sleep(ECHO_SECONDS + 0.2)
            assert b"Waiting for 1 purchase in flight, at most 21 s. Ctrl-C again" in shown
            started = time.monotonic()
            gateway.send(signal.SIGINT)
            assert await gateway.ended() == 1
            assert time.monotonic() - started < 10
            with pytest.raises(aiohttp.ClientError):
                await waiting
        await until(lambda: b"exited at once: a sweep will charge open purchases" in shown)
        async with books_in(tmp_path) as books:
            assert len((await books.account()).holds) == 1
    asyncio.get_running_loop().remove_reader(master)
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_comes_with_notice_unless_somebody_waits_at_a_terminal(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with program(tmp_path, SERVER_DRAIN_NOTICE_SECONDS="1.5") as gateway:
        await gateway.start("serve", "--sandbox")
        await gateway.listening()
        started = time.monotonic()
        gateway.send(number)
        assert await gateway.ended() == 0
        if number == signal.SIGTERM:
            assert time.monotonic() - started >= 1.5
        assert ("notice of the drain" in gateway.err) is (number == signal.SIGTERM)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_closed_standard_files_end_neither_the_start_nor_the_stop(
    tmp_path: Path, closed: str
) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$0" -m gateway serve --sandbox {closed}', sys.executable),
        cwd=tmp_path,
        env={
            **CLEAN,
            "PYTHONPATH": str(ROOT),
            "GATEWAY_SERVER_PORT": str(port),
            "GATEWAY_SERVER_ADMIN_PORT": "0",
            "GATEWAY_SERVER_DRAIN_NOTICE_SECONDS": "0",
        },
    )
    try:
        await until(lambda: _answers(process, port), 60)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _answers(process: Process, port: int) -> bool:
    assert process.returncode is None
    return not await refuses(f"http://127.0.0.1:{port}")


# -- the log ------------------------------------------------------------------------------------


def assert_complete(log: str, requests: int) -> None:
    """Check that a log has a line for each request and the one of the stop, in their order."""
    lines = [json.loads(line) for line in log.splitlines()]
    assert sum(line["event"] == "request" for line in lines) == requests
    assert lines[-1]["event"] == "stopped"
    times = [line["timestamp"] for line in lines]
    assert times == sorted(times)


async def ask(url: str, count: int) -> None:
    """Send this many requests for an unknown path. Each of them is one log line."""
    async with wire(url) as connection:
        for _ in range(count):
            await connection.send(b"GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert (await connection.answer(seconds=20)).status == 404


@asynccontextmanager
async def gateway_into_a_pipe(folder: Path) -> AsyncIterator[tuple[Program, str, int]]:
    """A gateway, its URL, and the end of the pipe to read its log from. Nothing reads it."""
    reader, writer = os.pipe()
    try:
        async with program(folder) as gateway:
            await gateway.start("serve", "--sandbox", stderr=writer)
            os.close(writer)
            yield gateway, await asyncio.wait_for(asyncio.to_thread(_url, reader), 20), reader
    finally:
        os.close(reader)


def _url(reader: int) -> str:
    text = ""
    while (found := _STARTED.search(text)) is None:
        data = os.read(reader, 65_536)
        assert data, text
        text += data.decode()
    return found[1]


async def test_an_unread_log_stops_nothing(tmp_path: Path) -> None:
    async with gateway_into_a_pipe(tmp_path) as (gateway, url, _):
        await ask(url, MANY)
        gateway.send(signal.SIGTERM)
        assert await gateway.ended(15) == 0


async def test_a_log_that_is_read_late_is_complete(tmp_path: Path) -> None:
    async with gateway_into_a_pipe(tmp_path) as (gateway, url, reader):
        await ask(url, MANY)
        with closing(os.fdopen(os.dup(reader), "rb")) as stream:
            gateway.send(signal.SIGTERM)
            text = await asyncio.wait_for(asyncio.to_thread(stream.read), 20)
        assert_complete(text.decode(), MANY)
