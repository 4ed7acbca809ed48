"""The logs of a serving process: read or not, they neither stop it nor get lost."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from tests.support.program import program
from tests.support.raw import wire
from tests.support.tools import ROOT

MANY = 3_000
"""Lines of requests: several times what a pipe holds."""

_STARTED = re.compile(r'"public":"([^"]+)"')


async def ask(url: str, count: int) -> None:
    """So many requests that nothing answers, each of which is one line."""
    async with wire(url) as connection:
        for _ in range(count):
            await connection.send(b"GET /nowhere HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert (await connection.answer(seconds=20)).status == 404


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)


@asynccontextmanager
async def gateway_into_a_pipe(
    folder: Path,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, int]]:
    """A gateway, its URL, and where its log can be read from; nobody reads it further."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ports = {"GATEWAY_SERVER_PORT": "0", "GATEWAY_SERVER_ADMIN_PORT": "0"}
    with pipe() as (reader, writer):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--sandbox"),
            cwd=folder,
            env=environ | ports,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=writer,
        )
        os.close(writer)
        try:
            yield process, await asyncio.wait_for(asyncio.to_thread(_url, reader), 20), reader
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _url(reader: int) -> str:
    text = ""
    while (found := _STARTED.search(text)) is None:
        data = os.read(reader, 65_536)
        assert data, text
        text += data.decode()
    return found[1]


async def test_an_unread_log_stops_nothing(tmp_path: Path) -> None:
    async with gateway_into_a_pipe(tmp_path) as (process, url, _):
        await ask(url, MANY)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


async def test_a_log_that_is_read_late_is_complete(tmp_path: Path) -> None:
    async with gateway_into_a_pipe(tmp_path) as (process, url, reader):
        await ask(url, MANY)
        with closing(os.fdopen(os.dup(reader), "rb")) as stream:
            process.terminate()
            text = await asyncio.wait_for(asyncio.to_thread(stream.read), 20)
        lines = [json.loads(line) for line in text.splitlines()]
        assert sum(line["event"] == "request" for line in lines) == MANY
        assert lines[-1]["event"] == "stopped"


async def test_no_line_is_lost_at_the_stop(tmp_path: Path) -> None:
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--sandbox")
        url, _ = await gateway.listening()
        await ask(url, 200)
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        lines = [json.loads(line) for line in gateway.err.splitlines()]
        assert sum(line["event"] == "request" for line in lines) == 200
        assert lines[-1]["event"] == "stopped"
        assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)


async def test_dropped_lines_are_a_metric(tmp_path: Path) -> None:
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--sandbox")
        _, admin = await gateway.listening()
        async with wire(admin) as connection:
            await connection.send(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n")
            text = (await connection.answer()).body.decode()
        assert "gateway_log_lines_dropped_total 0.0" in text.splitlines()
