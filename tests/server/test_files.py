"""A gateway with few file descriptors: its public port is full, its admin port answers."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.upstream.sandbox import Sandbox
from tests.support.process import GatewayProcess, running_process
from tests.support.raw import RawAnswer, Wire, request_bytes, wire
from tests.support.steps import drawing, until

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits as on Linux")

MODELS = request_bytes(None, method="GET", target="/v1/models", body=b"", length=None)


@asynccontextmanager
async def a_gateway(folder: Path, open_files: str = "") -> AsyncIterator[GatewayProcess]:
    async with (
        Sandbox(drawing()) as upstream,
        running_process(folder, upstream.url, open_files=open_files) as gateway,
    ):
        yield gateway


async def crowd(url: str, size: int, stack: AsyncExitStack) -> list[RawAnswer | None]:
    """Open connections and ask on each one; their answers in turn. They stay open."""
    connections: list[Wire] = [await stack.enter_async_context(wire(url)) for _ in range(size)]
    for connection in connections:
        await connection.send(MODELS)
    answers: list[RawAnswer | None] = []
    for connection in connections:
        try:
            answers.append(await connection.answer())
        except (ConnectionError, asyncio.IncompleteReadError):
            answers.append(None)
    return answers


async def metrics_of(gateway: GatewayProcess) -> dict[str, float]:
    """Its metrics. Every route is asked over a new connection, as by a health check."""
    texts = {}
    for path in ("/healthz", "/readyz", "/metrics"):
        async with aiohttp.request("GET", gateway.admin_url + path) as response:
            assert response.status == 200, gateway.lines()[-3:]
            texts[path] = await response.text()
    lines = [line for line in texts["/metrics"].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def events(gateway: GatewayProcess, word: str) -> list[str]:
    """The events of warnings and worse that contain a word."""
    lines = [line for line in gateway.lines() if line.get("level") not in ("info", "debug")]
    return [line["event"] for line in lines if word in line.get("event", str(line))]


async def test_the_maximum_of_connections_fits_into_the_limit_of_files(tmp_path: Path) -> None:
    async with a_gateway(tmp_path, open_files="128") as gateway, AsyncExitStack() as stack:
        (warning,) = [line for line in gateway.lines() if "lowered" in line["event"]]
        assert (warning["allowed"], warning["open_files"]) == (32, 128)
        answers = await crowd(gateway.url, 150, stack)
        codes = [answer.status for answer in answers if answer]
        assert (codes.count(401), codes.count(503)) == (32, 118)
        values = await metrics_of(gateway)
        assert values["gateway_connections"] == values["gateway_connections_limit"] == 32
        assert values['gateway_connections_refused_total{reason="full"}'] == 118
        assert values["gateway_process_open_fds"] < 128
        await until(lambda: events(gateway, "refused") != [])
        assert len(events(gateway, "refused")) == 1


async def test_without_file_descriptors_the_admin_port_answers(tmp_path: Path) -> None:
    async with a_gateway(tmp_path) as gateway, AsyncExitStack() as stack:
        _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
        used = max(map(int, os.listdir(f"/proc/{gateway.pid}/fd"))) + 1
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (used + 10, hard))
        answers = await crowd(gateway.url, 60, stack)
        refused = [answer for answer in answers if answer and answer.status == 503]
        assert len(refused) >= 40
        assert refused[0].error == (503, "overloaded")
        assert "retry-after" in refused[0].headers
        for _ in range(2):
            values = await metrics_of(gateway)
        assert values['gateway_connections_refused_total{reason="files"}'] >= len(refused)
        assert values["gateway_process_open_fds"] >= used
        await until(lambda: events(gateway, "out of file descriptors") != [])
        assert events(gateway, "out of file descriptors") == ["out of file descriptors"]
        assert not events(gateway, "accept(")
        await stack.aclose()

        async def is_served() -> bool:
            async with AsyncExitStack() as one:
                (answer,) = await crowd(gateway.url, 1, one)
                return answer is not None and answer.status == 401

        await until(is_served)
        resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE, (hard, hard))
        assert events(gateway, "descriptors") == ["out of file descriptors"]
