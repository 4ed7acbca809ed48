"""Restarts and a kill of two gateways behind each load balancer of deploy/, under load.

The clients repeat only a 503, which costs nothing: on a busy machine a load balancer may take both
gateways for gone. Each other request that gets no image is lost.
"""

import asyncio
import secrets
import signal
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from tests.support.balancers import (
    balancing,
    caddy_config,
    haproxy_config,
    needs_caddy,
    needs_haproxy,
    needs_nginx,
    nginx_config,
)
from tests.support.redis import free_port
from tests.support.replicas import running_replicas
from tests.support.rig import FLAT, Client
from tests.support.steps import AWAY, drawing, until

A_SECOND = 50
"""Requests a second to each load balancer."""

LATENCY = 0.3
"""How many seconds an image takes, so that fifteen calls of each load balancer are in flight."""


PAUSE_SECONDS = 0.2
MOST_TURNED_AWAY = 0.02
"""The pause before a repeat, and the most of them as a share of the requests."""

CHECKED_SECONDS = 3.0
"""Within this time every load balancer learns that a gateway is there, or is gone."""


class Asked(NamedTuple):
    """A request: when it was sent and ended, and how. `retry` is the header x-should-retry."""

    sent: float
    ended: float
    end: str
    retry: str | None


class Load:
    """Distinct requests to a load balancer, evenly spaced, until it is stopped."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self.turned_away = 0
        self._asking = list[asyncio.Task[Asked]]()
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> list[Asked]:
        """Send nothing more; returns all requests once they are answered."""
        self._running.cancel()
        return await asyncio.gather(*self._asking)

    async def _run(self) -> None:
        began = time.monotonic()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client = Client(session, self._url)
            try:
                while True:
                    self._asking.append(asyncio.create_task(self._ask(client)))
                    await asyncio.sleep(began + len(self._asking) / A_SECOND - time.monotonic())
            finally:
                await asyncio.wait(self._asking)

    async def _ask(self, client: Client) -> Asked:
        sent = time.monotonic()
        try:
            while (got := await client.generate(self._key)).status == 503:
                self.turned_away += got.error != AWAY
                await asyncio.sleep(PAUSE_SECONDS)
        except aiohttp.ClientError as error:
            return Asked(sent, time.monotonic(), repr(error), None)
        end = "image" if got.status == 200 else f"{got.error[0]} {got.error[2]}"
        return Asked(sent, time.monotonic(), end, got.headers.get("x-should-retry"))


@pytest.mark.exhaustive  # its short sisters: tests/server/test_gateway.py, tests/web
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("caddy", marks=needs_caddy),
        pytest.param("haproxy", marks=needs_haproxy),
        pytest.param("nginx", marks=needs_nginx),
    ],
)
async def test_restarts_lose_nothing_and_a_kill_only_what_is_in_flight_there(
    tmp_path: Path, name: str
) -> None:
    one, two = 1 + secrets.randbelow(254), 1 + secrets.randbelow(254)
    hosts = [f"127.{one}.{two}.{number}" for number in (1, 2)]
    port, urls = free_port(), [f"http://{host}:8080" for host in hosts]
    config = {
        "caddy": lambda: caddy_config(tmp_path, port, urls, 9090),
        "haproxy": lambda: haproxy_config(tmp_path, port, urls, 9090),
        "nginx": lambda: nginx_config(tmp_path, "nginx.conf", port, urls),
    }[name]()
    async with (
        running_replicas(tmp_path, FLAT, drawing(latency=LATENCY), shifts=()) as replicas,
        balancing(config, port),
    ):
        for host in hosts:
            await replicas.start_at(host, SERVER_DRAIN_NOTICE_SECONDS="5")
        key = await replicas.key()
        await asyncio.sleep(CHECKED_SECONDS)
        load = Load(f"http://127.0.0.1:{port}", key)
        await until(lambda: replicas.sandbox.counts.asked > A_SECOND, 30)
        for gateway in replicas.gateways:
            gateway.send(signal.SIGTERM)
            assert await gateway.ended(60) == 0
            await gateway.serve()
        await asyncio.sleep(CHECKED_SECONDS)
        began = time.monotonic()
        await replicas.kill(replicas.gateways[0])
        killed = time.monotonic()
        await asyncio.sleep(CHECKED_SECONDS)
        asked = await load.stop()
    assert load.turned_away <= len(asked) * MOST_TURNED_AWAY
    lost = [one for one in asked if one.end != "image"]
    # Each of them was in flight at the kill, or was sent before the balancer knew of it.
    assert [one for one in lost if one.ended < began or one.sent > killed + 1] == []
    assert {(one.end, one.retry) for one in lost} <= {("502 no_answer", "false")}
    bought = [one.body for one in replicas.sandbox.counts.requests]
    assert len(set(bought)) == len(bought)
    assert len(asked) - len(lost) <= len(bought) <= len(asked)
