"""Slow clients and clients that read nothing: what they take of a gateway's memory and time."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.process import GatewayProcess, running_process
from tests.support.raw import request_bytes
from tests.support.rig import UPSTREAM_KEY
from tests.support.steps import key_in

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read as Linux shows it"
)

BYTES_EACH = 30_000

SLOW_HEAD = b"POST /v1/images/generations HTTP/1.1\r\nHost: gateway\r\nX-Slow: "


def resident(pid: int) -> int:
    """The memory of a process in bytes."""
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


@asynccontextmanager
async def holding(url: str, size: int, data: bytes) -> AsyncIterator[None]:
    """Connections that send as much of the data as the gateway takes, and read nothing."""
    loop, port = asyncio.get_running_loop(), int(url.rpartition(":")[2])
    connections = [socket.socket() for _ in range(size)]
    try:
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", port))
            with suppress(BlockingIOError):
                connection.send(data)
        yield
    finally:
        for connection in connections:
            connection.close()


async def usual_seconds(gateway: GatewayProcess, key: str, prompt: str) -> float:
    """The median time of a few cache hits, in seconds."""
    times = []
    for _ in range(21):
        began = time.monotonic()
        assert (await gateway.generate(key, prompt)).status == 200
        times.append(time.monotonic() - began)
    return sorted(times)[10]


CASES = {
    "slow heads": (SLOW_HEAD, 2_000),
    "slow bodies": (b"", 500),
    "unread answers": (b"hit", 1_000),
    "unread pipelined answers": (200 * b"hit", 1_000),
    "unread pipelined refusals": (1_000 * request_bytes(), 1_000),
}


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ("unread pipelined answers", 5),
        *(pytest.param(case, 1, marks=pytest.mark.exhaustive) for case in CASES),
    ],
)
async def test_a_held_connection_takes_little_memory(tmp_path: Path, case: str, share: int) -> None:
    data, size = CASES[case]
    async with (
        Sandbox(SandboxSettings(api_key=UPSTREAM_KEY)) as upstream,
        running_process(tmp_path, upstream.url) as gateway,
    ):
        key = await key_in(tmp_path)
        body = json.dumps({"prompt": "held"}).encode()
        answer = await gateway.generate(key, "held")
        assert len(answer.body) > 20_000
        hit = request_bytes(key, body=body)
        data = data.replace(b"hit", hit) or request_bytes(key, body=body[:5], length=100)
        async with holding(gateway.url, 50, data):  # what every gateway has after a while
            await usual_seconds(gateway, key, "held")
        base = resident(gateway.pid)
        async with holding(gateway.url, size // share, data):
            await asyncio.sleep(1)
            assert await usual_seconds(gateway, key, "held") < 0.5
            held = resident(gateway.pid) - base
            async with aiohttp.request("GET", gateway.admin_url + "/metrics") as response:
                metrics = (await response.text()).splitlines()
        (open_ones,) = [line for line in metrics if line.startswith("gateway_connections ")]
        assert float(open_ones.split()[1]) >= size // share
        # With few connections, what the process itself takes meanwhile counts too.
        limit = BYTES_EACH if share == 1 else 1.5 * BYTES_EACH
        assert held / (size // share) < limit
