"""The event loop: how it looks up addresses, and how it reads."""

import asyncio
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web

pytest.importorskip("uvloop")

from gateway.server.uvloop import Loop
from gateway.web.http_server import MAX_HEAD_BYTES
from tests.support.raw import ask, request_bytes
from tests.support.serving import serving


def threads() -> int:
    """The threads of this process, those of the libraries included."""
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="threads are counted as Linux does"
)
def test_a_numeric_address_needs_no_thread() -> None:
    async def connect() -> tuple[int, int]:
        with closing(socket.socket()) as listening, closing(socket.socket()) as client:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            client.setblocking(False)
            before = threads()
            await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
            assert client.getpeername() == listening.getsockname()
            return before, threads()

    with asyncio.Runner(loop_factory=Loop) as runner:
        before, after = runner.run(connect())
    assert after == before


def test_a_named_address_is_looked_up() -> None:
    async def look_up() -> list[int]:
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 80, family=socket.AF_INET)
        return [kind for _, kind, *_ in found]

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert set(runner.run(look_up())) == {socket.SOCK_STREAM}


def test_a_long_head_that_arrives_at_once_is_refused() -> None:
    """It is read at once, before the task of its connection runs for the first time."""
    line = f"X-Long: {'a' * 8_000}\r\n"
    head = request_bytes(headers=line * (MAX_HEAD_BYTES // len(line) + 2))

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response()

    async def statuses() -> list[int]:
        async with serving(answer) as url:
            return [(await ask(url, head)).status for _ in range(5)]

    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(statuses()) == [431] * 5
