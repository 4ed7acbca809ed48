"""The logs of a serving process: an unread log does not stop it, and no line is lost."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.support.process import Program, program
from tests.support.raw import wire

MANY = 3_000
"""Lines of requests: several times the capacity of a pipe."""

_STARTED = re.compile(r'"public":"([^"]+)"')


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
        lines = [json.loads(line) for line in text.splitlines()]
        assert sum(line["event"] == "request" for line in lines) == MANY
        assert lines[-1]["event"] == "stopped"


async def test_no_line_is_lost_at_the_stop(tmp_path: Path) -> None:
    async with program(tmp_path) as gateway:
        await gateway.start("serve", "--sandbox")
        url, admin = await gateway.listening()
        await ask(url, 200)
        async with wire(admin) as connection:
            await connection.send(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n")
            metrics = (await connection.answer()).body.decode()
        assert "gateway_log_lines_dropped_total 0.0" in metrics.splitlines()
        gateway.send(signal.SIGTERM)
        assert await gateway.ended() == 0
        lines = [json.loads(line) for line in gateway.err.splitlines()]
        assert sum(line["event"] == "request" for line in lines) == 200
        assert lines[-1]["event"] == "stopped"
        assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)

        # Without a demo, the sandbox prints nothing and creates no key.
        assert gateway.out == ""
        assert (tmp_path / "data" / "sandbox.db").exists()
        assert not (tmp_path / "data" / "demo.key").exists()
