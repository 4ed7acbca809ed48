"""Identical requests at several gateways are one purchase, also where the buyer dies."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.core.model import Limits
from gateway.proxy.election import LEASE_SECONDS
from tests.support.money import drawing, until
from tests.support.process import GatewayProcess
from tests.support.redis import running_redis
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, PROMPT, Got

pytestmark = pytest.mark.alone

CROWD = 200

BOUGHT = "gateway; fwd=miss; stored"
COLLAPSED = "gateway; fwd=miss; collapsed"
HIT = "gateway; hit"

SLACK_SECONDS = 3.0
"""What a busy machine may take besides."""

ONE = Limits(images_per_day=1, cost_per_day=40_000, concurrent_requests=1, requests_per_minute=1)
"""Limits that one purchase fills: a second one would be refused."""


@asynccontextmanager
async def buying_replicas(folder: Path, latency: float, **environ: str) -> AsyncIterator[Replicas]:
    async with (
        running_redis(folder / "redis") as redis,
        running_replicas(folder, redis.url, FLAT, drawing(latency=latency), **environ) as running,
    ):
        yield running


async def crowd(replicas: Replicas, key: str, size: int = CROWD) -> list[Got]:
    """So many identical requests at once, in turn at each gateway."""
    return list(await asyncio.gather(*(replicas.generate(key, PROMPT) for _ in range(size))))


def statuses(answers: Sequence[Got]) -> Counter[str]:
    """How the answers came about. They must all be one image."""
    assert {got.status for got in answers} == {200}, {got.body for got in answers}
    assert len({got.body for got in answers}) == 1
    return Counter(got.headers["Cache-Status"] for got in answers)


@pytest.mark.parametrize("latency", [3.0, 10.0])
async def test_200_at_once_are_one_call_and_one_charge(tmp_path: Path, latency: float) -> None:
    async with buying_replicas(tmp_path, latency) as replicas:
        key = await replicas.key(limits=ONE)
        answers = await crowd(replicas, key)
        assert replicas.sandbox.counts.asked == 1
        assert statuses(answers) == {BOUGHT: 1, COLLAPSED: CROWD - 1}
        costs = Counter(got.headers["x-gateway-cost-usd"] for got in answers)
        assert costs == {"0.04": 1, "0": CROWD - 1}
        await replicas.assert_books("team", 1)
        # Each gateway has it now, and none asks anybody.
        assert statuses(await crowd(replicas, key)) == {HIT: CROWD}
        assert replicas.sandbox.counts.asked == 1


async def test_many_pictures_asked_for_everywhere_are_each_bought_once(tmp_path: Path) -> None:
    """Waves that come while flights land: no gap is between landing and being kept."""
    async with buying_replicas(tmp_path, 0.1) as replicas:
        key = await replicas.key()

        async def wave(number: int) -> Got:
            await asyncio.sleep(number * 0.002)
            return await replicas.generate(key, f"prompt {number % 35}")

        answers = await asyncio.gather(*(wave(number) for number in range(1_000)))
        assert {got.status for got in answers} == {200}
        assert replicas.sandbox.counts.asked == 35
        await replicas.assert_books("team", 35)


async def buyer(replicas: Replicas) -> GatewayProcess:
    """The gateway whose call is upstream: clients number their requests by gateway."""
    await until(lambda: replicas.sandbox.counts.asked > 0)
    name = replicas.sandbox.counts.requests[-1].headers["x-request-id"]
    return replicas.gateways[int(name.removeprefix("gateway-"))]


async def test_the_buyer_killed_costs_one_further_call_at_most(tmp_path: Path) -> None:
    latency = 3.0
    async with buying_replicas(tmp_path, latency, UPSTREAM_TIMEOUT_SECONDS="6") as replicas:
        key = await replicas.key()
        ended: dict[float, Got] = {}

        async def ask(number: int, gateway: GatewayProcess) -> None:
            named = {"X-Request-Id": f"gateway-{number}"}
            try:
                got = await gateway.generate(key, PROMPT, headers=named)
            except aiohttp.ClientError:
                return  # its gateway died
            ended[time.monotonic()] = got

        numbered = list(enumerate(replicas.gateways)) * (CROWD // 4)
        asked = [asyncio.create_task(ask(number, gateway)) for number, gateway in numbered]
        victim = await buyer(replicas)
        await asyncio.sleep(2)
        killed = time.monotonic()
        await replicas.kill(victim)
        await asyncio.gather(*asked)
        assert statuses(list(ended.values())).total() == CROWD * 3 // 4
        assert replicas.sandbox.counts.asked <= 2
        assert max(ended) - killed < LEASE_SECONDS + latency + SLACK_SECONDS
        await until(replicas.is_closed, 20)
        await replicas.assert_books("team", 2)
