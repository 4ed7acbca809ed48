"""One purchase over gateways that share a Redis: bought by one, told to all who wait."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest

from gateway.core.model import Limits
from gateway.proxy.election import LEASE_SECONDS
from gateway.upstream.sandbox import Fault
from tests.support.gateways import Gateways, running_gateways, shared
from tests.support.money import PRICE, drawing, until
from tests.support.process import GatewayProcess, running_process
from tests.support.redis import running_redis
from tests.support.rig import FLAT, PROMPT, Got, Rig
from tests.support.steps import metric, read_samples, status, total

HIT, COLLAPSED = "gateway; hit", "gateway; fwd=miss; collapsed"
STORED = "gateway; fwd=miss; stored"
EXACT = Limits(images_per_day=1, cost_per_day=PRICE, concurrent_requests=1, requests_per_minute=1)
"""Limits that one purchase fills: a second one would be refused."""

SLACK = 10.0
"""Seconds that a busy machine may take besides."""


async def key_of(gateways: Gateways, team: str = "team", **options: Any) -> str:
    """A new key that all gateways know."""
    key = await gateways.rigs[0].key(team, **options)
    await gateways.refresh()
    return key


async def crowd(gateways: Gateways, key: str, size: int, **fields: Any) -> list[Got]:
    """The same request many times at once, to each gateway in turn."""
    asked = (
        gateways.rigs[number % len(gateways.rigs)].generate(key, **fields) for number in range(size)
    )
    return list(await asyncio.gather(*asked))


async def counted(gateways: Gateways, name: str, **labels: str) -> float:
    """A metric summed over all gateways."""
    return sum([await metric(rig, name, **labels) for rig in gateways.rigs])


async def charged(rig: Rig, team: str = "team") -> tuple[int, int]:
    """Images and money of the team's day, with nothing on hold."""
    account = await rig.account(team)
    assert not account.holds
    return account.day.images, account.day.cost


async def first_waits(gateways: Gateways, key: str, **fields: Any) -> "asyncio.Task[Got]":
    """Ask the first gateway, and return once the upstream is busy with it."""
    asked = gateways.sandbox.counts.asked
    first = asyncio.create_task(gateways.rigs[0].generate(key, **fields))
    await until(lambda: gateways.sandbox.counts.asked > asked)
    return first


async def test_200_over_four_gateways_are_one_call_and_one_charge(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 4, drawing(latency=2)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        answers = await crowd(gateways, key, 200)
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: 199}
        assert len({got.body for got in answers}) == 1
        assert gateways.sandbox.counts.calls == 1
        assert await charged(gateways.rigs[0]) == (1, PRICE)
        roles = {
            role: await counted(gateways, "gateway_flights_total", role=role)
            for role in ("lead", "follow", "remote")
        }
        assert roles == {"lead": 1, "follow": 196, "remote": 3}
        assert await counted(gateways, "gateway_saved_usd_total") == pytest.approx(199 * 0.04)
        assert await counted(gateways, "gateway_lease_losses_total") == 0
        for rig in gateways.rigs:
            assert status(await rig.generate(key)) == HIT


@pytest.mark.alone
async def test_many_pictures_at_once_are_each_bought_once(tmp_path: Path) -> None:
    """Waves that come while flights land and leases end."""
    async with running_gateways(tmp_path, 4, drawing(latency=0.1)) as gateways:
        key = await key_of(gateways)

        async def wave(number: int) -> None:
            await asyncio.sleep(number * 0.002)
            rig = gateways.rigs[number % 4]
            assert (await rig.generate(key, f"prompt {number % 13}")).status == 200

        await asyncio.gather(*(wave(number) for number in range(400)))
        assert gateways.sandbox.counts.calls == 13
        assert await charged(gateways.rigs[0]) == (13, 13 * PRICE)


async def test_without_a_shared_cache_the_answer_is_handed_over(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 3, drawing(latency=1), CACHE_URL="") as gateways:
        key = await key_of(gateways, limits=EXACT)
        answers = await crowd(gateways, key, 30)
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: 29}
        assert gateways.sandbox.counts.calls == 1


async def test_with_a_cache_that_is_away_the_answer_is_handed_over(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "cache") as cache:
        environ = {"CACHE_URL": cache.url}
        async with running_gateways(tmp_path, 3, drawing(latency=1), **environ) as gateways:
            key = await key_of(gateways, limits=EXACT)
            asking = asyncio.create_task(crowd(gateways, key, 30))
            await until(lambda: gateways.sandbox.counts.asked == 1)
            await cache.kill()
            assert Counter(map(status, await asking)) == {STORED: 1, COLLAPSED: 29}
            assert gateways.sandbox.counts.calls == 1


async def test_an_answer_that_is_not_kept_is_handed_over(tmp_path: Path) -> None:
    """Fewer images than asked for: right for those who wait, not for later ones."""
    async with running_gateways(tmp_path, 3, drawing(latency=1)) as gateways:
        key = await key_of(gateways)
        gateways.sandbox.fault = Fault(kind="fewer", images=3, times=1)
        answers = await crowd(gateways, key, 9, n=4)
        assert {len(got.json["data"]) for got in answers} == {3}
        assert Counter(map(status, answers)) == {"gateway; fwd=miss": 1, COLLAPSED: 8}
        assert await charged(gateways.rigs[0]) == (3, 3 * PRICE)
        assert len((await gateways.rigs[0].generate(key, n=4)).json["data"]) == 4


@pytest.mark.parametrize("code", [400, 422, 429, 401, 404, 500, 502, 504])
async def test_a_failure_is_told_to_all_with_one_charge(tmp_path: Path, code: int) -> None:
    async with running_gateways(tmp_path, 3, drawing(latency=1)) as gateways:
        key = await key_of(gateways)
        gateways.sandbox.fault = Fault(kind="status", status=code)
        answers = await crowd(gateways, key, 30)
        assert gateways.sandbox.counts.calls == 1
        assert len({(got.status, got.body, got.headers.get("Retry-After")) for got in answers}) == 1
        assert len({got.headers.get("x-should-retry") for got in answers}) == 1
        unknown = code in (502, 504)
        assert await charged(gateways.rigs[0]) == ((1, PRICE) if unknown else (0, 0))


async def test_a_failure_is_forgotten(tmp_path: Path) -> None:
    """Whoever asks after it, wherever, is not told of it any more."""
    async with running_gateways(tmp_path, 2, drawing(latency=0.05)) as gateways:
        key = await key_of(gateways)
        for number in range(20):
            gateways.sandbox.fault = Fault(kind="status", status=500, times=1)
            failed = await gateways.rigs[0].generate(key, f"prompt {number}")
            again = await gateways.rigs[0].generate(key, f"prompt {number}")
            assert (failed.status, again.status) == (502, 200)


async def test_another_teams_limit_is_nothing_to_those_who_wait(tmp_path: Path) -> None:
    toml = FLAT + '[cache]\nscope = "shared"\n'
    async with running_gateways(tmp_path, 2, drawing(latency=0.3), toml) as gateways:
        poor = await key_of(gateways, "poor", limits=Limits(images_per_day=0))
        rich = await key_of(gateways, "rich")
        asked = [gateways.rigs[0].generate(poor) for _ in range(5)]
        asked += [gateways.rigs[1].generate(rich) for _ in range(5)]
        answers = await asyncio.gather(*asked)
        assert Counter(got.status for got in answers[5:]) == {200: 5}
        # Whoever came after the purchase began has the same picture for nothing.
        assert {got.status for got in answers[:5]} <= {200, 429}
        assert gateways.sandbox.counts.calls == 1
        assert await charged(gateways.rigs[0], "rich") == (1, PRICE)
        assert await charged(gateways.rigs[0], "poor") == (0, 0)


async def test_an_answer_bought_meanwhile_is_fresh_enough_for_all(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        key = await key_of(gateways)
        fresh = {"Cache-Control": "max-age=0"}
        first, second = gateways.rigs
        answers = await asyncio.gather(
            first.generate(key, headers=fresh), second.generate(key, headers=fresh)
        )
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: 1}
        assert gateways.sandbox.counts.calls == 1
        # Waiting for another gateway is no time of this one's own.
        assert await counted(gateways, "gateway_overhead_seconds_sum") < 0.9


async def test_an_older_answer_is_not_fresh_enough(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=0.1)) as gateways:
        key = await key_of(gateways)
        fresh = {"Cache-Control": "max-age=0"}
        await gateways.rigs[0].generate(key)
        got = await gateways.rigs[1].generate(key, headers=fresh)
        assert status(got) == STORED
        assert gateways.sandbox.counts.calls == 2


async def test_who_wants_a_fresh_answer_never_waits_for_another_gateway(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=0.5)) as gateways:
        key = await key_of(gateways)
        fresh = {"Cache-Control": "no-store"}
        await asyncio.gather(*(rig.generate(key, headers=fresh) for rig in gateways.rigs))
        assert gateways.sandbox.counts.calls == 2


async def test_a_hang_up_cancels_neither_flight_nor_lease(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        first = await first_waits(gateways, key)
        second = asyncio.create_task(gateways.rigs[1].generate(key))
        first.cancel()
        assert status(await second) == COLLAPSED
        assert gateways.sandbox.counts.calls == 1


async def test_a_client_that_leaves_its_wait_changes_nothing(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        first = await first_waits(gateways, key)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gateways.rigs[1].generate(key), 0.3)
        assert status(await first) == STORED
        await until(lambda: len(gateways.rigs[1].gateway.proxy.flights) == 0)
        assert status(await gateways.rigs[1].generate(key)) == HIT


async def test_a_gateway_that_stops_delivers_and_the_others_wait_for_it(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=1)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        first = await first_waits(gateways, key)
        second = asyncio.create_task(gateways.rigs[1].generate(key))
        await gateways.rigs[0].gateway.stop()
        assert (status(await first), status(await second)) == (STORED, COLLAPSED)
        assert gateways.sandbox.counts.calls == 1


async def test_what_a_drain_cut_off_is_bought_by_another_one(tmp_path: Path) -> None:
    environ = {"SERVER_DRAIN_SECONDS": "1"}
    async with running_gateways(tmp_path, 2, drawing(latency=3), **environ) as gateways:
        key = await key_of(gateways)
        first = await first_waits(gateways, key)
        second = asyncio.create_task(gateways.rigs[1].generate(key))
        await until(lambda: len(gateways.rigs[1].gateway.proxy.flights) == 1)
        await gateways.rigs[0].gateway.stop()
        assert (await first).error[2] == "upstream_cut"
        assert status(await second) == STORED
        assert gateways.sandbox.counts.asked == 2
        assert await charged(gateways.rigs[1]) == (2, 2 * PRICE)


async def test_a_frozen_redis_costs_no_second_purchase(tmp_path: Path) -> None:
    """For 3 s, while one buys and the others wait: who answers nothing buys nothing."""
    async with running_gateways(tmp_path, 3, drawing(latency=6)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        asking = asyncio.create_task(crowd(gateways, key, 9))
        await until(lambda: gateways.sandbox.counts.asked == 1)
        gateways.redis.freeze()
        await asyncio.sleep(3)
        gateways.redis.thaw()
        async with asyncio.timeout(6 + SLACK):
            answers = await asking
        told = Counter(got.status if got.status == 503 else status(got) for got in answers)
        assert told[STORED] == 1
        assert told[STORED] + told[COLLAPSED] + told[503] == 9
        assert gateways.sandbox.counts.calls == 1
        assert await charged(gateways.rigs[0]) == (1, PRICE)


async def test_while_redis_is_away_nothing_is_bought_and_nobody_waits_long(
    tmp_path: Path,
) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=4)) as gateways:
        key = await key_of(gateways)
        first = await first_waits(gateways, key)
        second = asyncio.create_task(gateways.rigs[1].generate(key))
        await until(lambda: len(gateways.rigs[1].gateway.proxy.flights) == 1)
        await gateways.redis.kill()
        other = await gateways.rigs[1].generate(key, "another")
        assert other.error == (503, "server_error", "store_unavailable")
        assert (await second).error == (503, "server_error", "store_unavailable")
        assert not first.done()  # they did not wait for its end to say so
        assert status(await first) == STORED
        assert gateways.sandbox.counts.calls == 1


async def test_lost_subscriptions_lose_no_news(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 3, drawing(latency=1.5)) as gateways:
        key = await key_of(gateways, limits=EXACT)
        asking = asyncio.create_task(crowd(gateways, key, 9))
        async with gateways.redis.client() as client:
            while not asking.done():
                await client.client_kill_filter(_type="pubsub")
                await asyncio.sleep(0.05)
        assert Counter(map(status, await asking)) == {STORED: 1, COLLAPSED: 8}
        assert gateways.sandbox.counts.calls == 1


# -- processes that die or stand still ----------------------------------------------------------


async def buyer_and_waiter(
    gateways: Gateways, process: GatewayProcess, key: str
) -> tuple["asyncio.Task[Got]", "asyncio.Task[Got]"]:
    """The process buys, and the gateway in this process waits for it."""
    rig = gateways.rigs[0]
    first = asyncio.create_task(process.generate(key, PROMPT))
    await until(lambda: gateways.sandbox.counts.asked == 1)
    second = asyncio.create_task(rig.generate(key))
    await until(lambda: len(rig.gateway.proxy.flights) == 1)
    return first, second


@asynccontextmanager
async def process_and_gateway(
    folder: Path, latency: float
) -> AsyncIterator[tuple[Gateways, GatewayProcess]]:
    async with (
        running_gateways(folder, 1, drawing(latency=latency)) as gateways,
        running_process(folder, gateways.sandbox.url, FLAT, **shared(gateways.redis)) as process,
    ):
        yield gateways, process


async def test_a_buyer_that_is_killed_costs_one_further_call(tmp_path: Path) -> None:
    latency = 4.0
    async with process_and_gateway(tmp_path, latency) as (gateways, process):
        key = await key_of(gateways)
        first, second = await buyer_and_waiter(gateways, process, key)
        killed = monotonic()
        await process.kill()
        assert status(await second) == STORED
        assert monotonic() - killed < LEASE_SECONDS + latency + SLACK
        assert gateways.sandbox.counts.asked == 2
        with pytest.raises(aiohttp.ClientError):
            await first


async def test_a_buyer_that_stood_still_is_told_and_charged_right(tmp_path: Path) -> None:
    """Longer than its lease: another one buys, and both pictures are paid and delivered."""
    async with process_and_gateway(tmp_path, latency=8) as (gateways, process):
        key = await key_of(gateways)
        first, second = await buyer_and_waiter(gateways, process, key)
        process.send(signal.SIGSTOP)
        await until(lambda: gateways.sandbox.counts.asked == 2, LEASE_SECONDS + SLACK)
        process.send(signal.SIGCONT)
        assert (status(await first), status(await second)) == (STORED, STORED)
        losses = read_samples((await process.admin("/metrics")).body.decode())
        assert total(losses, "gateway_lease_losses_total") == 1
        await until(lambda: "lease lost" in str(process.lines()))
        assert gateways.sandbox.counts.asked == 2
        assert await charged(gateways.rigs[0]) == (2, 2 * PRICE)
