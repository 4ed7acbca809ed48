"""One purchase over several gateways while gateways stop, die or freeze, and while Redis does."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.core.model import Limits
from gateway.proxy.election import LEASE_SECONDS
from tests.support.process import GatewayProcess, running_process
from tests.support.redis import running_redis
from tests.support.replicas import Gateways, running_gateways, running_replicas, shared
from tests.support.rig import FLAT, PRICE, PROMPT, Got
from tests.support.steps import AWAY, drawing, metric, status, until

COLLAPSED, STORED = "gateway; fwd=miss; collapsed", "gateway; fwd=miss; stored"
EXACT = Limits(images_per_day=1, cost_per_day=PRICE, concurrent_requests=1, requests_per_minute=1)
"""Limits that one purchase fills: a second one would be refused."""

SLACK = 10.0
"""Seconds that a busy machine may take on top."""


async def buyer_and_waiter(
    gateways: Gateways, key: str
) -> tuple["asyncio.Task[Got]", "asyncio.Task[Got]"]:
    """The first gateway has a call upstream, and the second one waits for its answer."""
    one, other = gateways.rigs[0], gateways.rigs[1]
    first = asyncio.create_task(one.generate(key))
    await until(lambda: gateways.sandbox.counts.asked == 1)
    second = asyncio.create_task(other.generate(key))
    await until(lambda: len(other.gateway.proxy.flights) == 1)
    return first, second


@pytest.mark.exhaustive  # its short sister: tests/promises/test_single_flight.py
@pytest.mark.parametrize("latency", [1.0, 8.0])
async def test_200_at_several_processes_are_one_call_and_one_charge(
    tmp_path: Path, latency: float
) -> None:
    """With clocks that disagree, and with a call that takes longer than a lease."""
    async with running_replicas(tmp_path, FLAT, drawing(latency=latency)) as replicas:
        key = await replicas.key(limits=EXACT)
        answers = await asyncio.gather(*(replicas.generate(key, PROMPT) for _ in range(200)))
        assert replicas.sandbox.counts.asked == 1
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: 199}
        assert len({got.body for got in answers}) == 1
        await replicas.assert_books(1)


# -- freshness ----------------------------------------------------------------------------------


async def test_an_answer_bought_meanwhile_is_fresh_enough_and_an_older_one_is_not(
    tmp_path: Path,
) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        key = await gateways.key()
        fresh = {"Cache-Control": "max-age=0"}
        answers = await gateways.crowd(key, 2, headers=fresh)
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: 1}
        # The wait for another gateway is no time of this gateway's own.
        assert await gateways.metric("gateway_overhead_seconds_sum") < 0.9
        gateways.sandbox.settings.latency = 0
        for rig in gateways.rigs:
            assert status(await rig.generate(key, headers=fresh)) == STORED
        assert gateways.sandbox.counts.calls == 3


# -- gateways that stop, die or freeze ----------------------------------------------------------


async def test_the_others_wait_for_a_gateway_that_stops(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        first, second = await buyer_and_waiter(gateways, await gateways.key(limits=EXACT))
        await gateways.rigs[0].gateway.stop()
        assert (status(await first), status(await second)) == (STORED, COLLAPSED)
        assert gateways.sandbox.counts.calls == 1


async def test_another_gateway_buys_after_a_drain_cut_the_first_call(tmp_path: Path) -> None:
    environ = {"SERVER_DRAIN_SECONDS": "1"}
    async with running_gateways(tmp_path, 2, drawing(latency=3), **environ) as gateways:
        first, second = await buyer_and_waiter(gateways, await gateways.key())
        await gateways.rigs[0].gateway.stop()
        assert (await first).error[2] == "upstream_cut"
        assert status(await second) == STORED
        assert gateways.sandbox.counts.asked == 2
        await gateways.rigs[1].assert_books(2)


@asynccontextmanager
async def process_and_gateway(
    folder: Path, latency: float
) -> AsyncIterator[tuple[Gateways, GatewayProcess, "asyncio.Task[Got]", "asyncio.Task[Got]"]]:
    """A process that has a call upstream, and a gateway in this process that waits for it."""
    async with (
        running_redis(folder / "redis") as redis,
        running_gateways(folder, 1, drawing(latency=latency), **shared(redis)) as gateways,
        running_process(folder, gateways.sandbox.url, FLAT, **shared(redis)) as process,
    ):
        key, rig = await gateways.key(), gateways.rigs[0]
        first = asyncio.create_task(process.generate(key, PROMPT))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        second = asyncio.create_task(rig.generate(key))
        await until(lambda: len(rig.gateway.proxy.flights) == 1)
        yield gateways, process, first, second


async def test_the_death_of_the_buyer_costs_one_further_call(tmp_path: Path) -> None:
    latency = 3.0
    async with process_and_gateway(tmp_path, latency) as (gateways, process, first, second):
        killed = time.monotonic()
        await process.kill()
        assert status(await second) == STORED
        assert time.monotonic() - killed < LEASE_SECONDS + latency + SLACK
        assert gateways.sandbox.counts.asked == 2
        with pytest.raises(aiohttp.ClientError):
            await first


@pytest.mark.exhaustive  # its short sister: the death of the buyer
async def test_a_buyer_frozen_for_longer_than_its_lease_is_charged_right(tmp_path: Path) -> None:
    """Another gateway buys meanwhile: both pictures are paid and delivered."""
    async with process_and_gateway(tmp_path, 8) as (gateways, process, first, second):
        process.send(signal.SIGSTOP)
        await until(lambda: gateways.sandbox.counts.asked == 2, LEASE_SECONDS + SLACK)
        process.send(signal.SIGCONT)
        assert (status(await first), status(await second)) == (STORED, STORED)
        assert await metric(process, "gateway_lease_losses_total") == 1
        await until(lambda: "lease lost" in str(process.lines()))
        assert gateways.sandbox.counts.asked == 2
        await gateways.rigs[0].assert_books(2)


# -- a Redis that dies or freezes ---------------------------------------------------------------


async def test_without_the_caches_redis_the_answer_is_handed_over(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "cache") as cache:
        environ = {"CACHE_URL": cache.url}
        async with running_gateways(tmp_path, 3, drawing(latency=1), **environ) as gateways:
            key = await gateways.key(limits=EXACT)
            asking = asyncio.create_task(gateways.crowd(key, 30))
            await until(lambda: gateways.sandbox.counts.asked == 1)
            await cache.kill()
            assert Counter(map(status, await asking)) == {STORED: 1, COLLAPSED: 29}
            assert gateways.sandbox.counts.calls == 1


async def test_a_redis_frozen_for_3_seconds_costs_no_second_purchase(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 3, drawing(latency=5)) as gateways:
        key = await gateways.key(limits=EXACT)
        asking = asyncio.create_task(gateways.crowd(key, 9))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        gateways.redis.freeze()
        await asyncio.sleep(3)
        gateways.redis.thaw()
        async with asyncio.timeout(5 + SLACK):
            answers = await asking
        ends = Counter(got.status if got.status == 503 else status(got) for got in answers)
        assert ends[STORED] == 1
        assert ends[STORED] + ends[COLLAPSED] + ends[503] == 9
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


async def test_while_redis_is_away_nothing_is_bought_and_nobody_waits_long(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=4)) as gateways:
        key = await gateways.key()
        first, second = await buyer_and_waiter(gateways, key)
        async with gateways.redis.client() as client:
            await client.save()
        await gateways.redis.kill()
        assert (await gateways.rigs[1].generate(key, "another")).error == AWAY
        assert (await second).error == AWAY
        assert not first.done()  # the refusals did not wait for its end
        assert status(await first) == STORED
        assert gateways.sandbox.counts.calls == 1
        await gateways.redis.start()  # so that the gateways can write what they bought, and stop
