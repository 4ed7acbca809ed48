"""Identical requests at the same time are one purchase: at one gateway, and at several over Redis.

Limits that a single purchase fills prove it: a second purchase would be refused.
"""

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.replicas import Gateways, running_gateways
from tests.support.rig import FLAT, PRICE, Got, running_rig
from tests.support.steps import calls, drawing, metric, status, until

HIT, COLLAPSED = "gateway; hit", "gateway; fwd=miss; collapsed"
STORED = "gateway; fwd=miss; stored"
CROWD = 200
EXACT = Limits(images_per_day=1, cost_per_day=PRICE, concurrent_requests=1, requests_per_minute=1)

at_one_and_at_three = pytest.mark.parametrize("count", [1, 3])


async def first_waits(gateways: Gateways, key: str) -> "asyncio.Task[Got]":
    """Ask the first gateway, and return when its call has arrived upstream."""
    asked = gateways.sandbox.counts.asked
    first = asyncio.create_task(gateways.rigs[0].generate(key))
    await until(lambda: gateways.sandbox.counts.asked > asked)
    return first


# -- one purchase for all -----------------------------------------------------------------------


@at_one_and_at_three
async def test_200_at_once_are_one_call_and_one_charge(tmp_path: Path, count: int) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=1)) as gateways:
        key = await gateways.key(limits=EXACT)
        answers = await gateways.crowd(key, CROWD)
        assert gateways.sandbox.counts.calls == 1
        assert Counter(map(status, answers)) == {STORED: 1, COLLAPSED: CROWD - 1}
        assert len({got.body for got in answers}) == 1
        costs = Counter(got.headers["x-gateway-cost-usd"] for got in answers)
        assert costs == {"0.04": 1, "0": CROWD - 1}
        await gateways.rigs[0].assert_books(1)
        for rig in gateways.rigs:
            usage = await rig.usage()
        assert (usage.requests, usage.images_cached) == (CROWD, CROWD - 1)
        assert usage.saved == (CROWD - 1) * PRICE
        roles = {
            role: await gateways.metric("gateway_flights_total", role=role)
            for role in ("lead", "follow", "remote")
        }
        assert roles == {"lead": 1, "follow": CROWD - count, "remote": count - 1}
        assert await gateways.metric("gateway_lease_losses_total") == 0
        for rig in gateways.rigs:
            assert status(await rig.generate(key)) == HIT


@at_one_and_at_three
async def test_many_pictures_by_many_at_once_are_each_bought_once(
    tmp_path: Path, count: int
) -> None:
    """Requests keep coming while flights land: between landing and the cache there is no gap."""
    async with running_gateways(tmp_path, count, drawing(latency=0.05)) as gateways:
        key = await gateways.key()

        async def wave(number: int) -> int:
            await asyncio.sleep(number * 0.002)
            rig = gateways.rigs[number % count]
            return (await rig.generate(key, f"prompt {number % 7}")).status

        assert set(await asyncio.gather(*map(wave, range(300)))) == {200}
        assert gateways.sandbox.counts.calls == 7
        await gateways.rigs[0].assert_books(7)


# -- failures -----------------------------------------------------------------------------------


@at_one_and_at_three
@pytest.mark.parametrize("code", [422, 502])
async def test_all_who_wait_get_a_failure_with_one_charge_and_the_next_buys_again(
    tmp_path: Path, count: int, code: int
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.7)) as gateways:
        key = await gateways.key()
        gateways.sandbox.fault = UpstreamFault(kind="status", status=code, times=1)
        started = time.monotonic()
        answers = await gateways.crowd(key, 30)
        assert time.monotonic() - started < 7  # one after the other would take 21 s
        assert gateways.sandbox.counts.calls == 1
        assert len({(got.status, got.body, got.headers.get("Retry-After")) for got in answers}) == 1
        assert len({got.headers.get("x-should-retry") for got in answers}) == 1
        charged = 1 if code == 502 else 0
        await gateways.rigs[0].assert_books(charged)
        for rig in reversed(gateways.rigs):
            assert status(await rig.generate(key, f"{code}")) in (STORED, HIT)
        anew = {"Cache-Control": "no-cache"} if charged else {}  # else it would be a repeat
        assert (await gateways.rigs[-1].generate(key, headers=anew)).status == 200


@at_one_and_at_three
async def test_followers_of_a_short_answer_get_it_and_later_requests_do_not(
    tmp_path: Path, count: int
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=0.7)) as gateways:
        key = await gateways.key()
        gateways.sandbox.fault = UpstreamFault(kind="fewer", images=3, times=1)
        answers = await gateways.crowd(key, 9, n=4)
        assert {len(got.json["data"]) for got in answers} == {3}
        assert Counter(map(status, answers)) == {"gateway; fwd=miss": 1, COLLAPSED: 8}
        for rig in gateways.rigs:
            usage = await rig.usage()
        assert (usage.images_bought, usage.images_cached) == (3, 8 * 3)
        assert usage.saved == 8 * 3 * PRICE
        await gateways.rigs[0].assert_books(3)
        assert len((await gateways.rigs[0].generate(key, n=4)).json["data"]) == 4


# -- clients that leave -------------------------------------------------------------------------


@at_one_and_at_three
async def test_the_first_client_leaving_changes_nothing_for_the_others(
    tmp_path: Path, count: int
) -> None:
    async with running_gateways(tmp_path, count, drawing(latency=1.5)) as gateways:
        key = await gateways.key(limits=EXACT)
        first = await first_waits(gateways, key)
        others = asyncio.create_task(gateways.crowd(key, 30))
        await asyncio.sleep(0.5)
        first.cancel()
        assert Counter(map(status, await others)) == {COLLAPSED: 30}
        assert gateways.sandbox.counts.calls == 1
        await gateways.rigs[0].assert_books(1)


async def test_a_hang_up_is_bought_once_and_a_retry_joins_it_or_gets_it_from_the_cache(
    tmp_path: Path,
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1)) as rig:
        key = await rig.key(limits=EXACT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.generate(key), 0.3)
        assert (await rig.account()).day.held_images == 1
        assert status(await rig.generate(key)) == COLLAPSED
        assert status(await rig.generate(key)) == HIT
        assert calls(rig) == 1
        await rig.assert_books(1)
        left = {"outcome": "client_closed", "team": "team"}
        assert await metric(rig, "gateway_requests_total", **left) == 1
        assert await metric(rig, "gateway_in_flight_requests") == 0


# -- requests that never share ------------------------------------------------------------------


@pytest.mark.parametrize("directive", ["no-cache", "no-store"])
async def test_a_request_for_a_fresh_answer_never_shares(tmp_path: Path, directive: str) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        key = await rig.key()
        fresh = {"Cache-Control": directive}
        answers = await asyncio.gather(
            rig.generate(key),
            *(rig.generate(key, headers=fresh) for _ in range(5)),
            rig.generate(key),
        )
        assert calls(rig) == 6
        stored = "; stored" if directive == "no-cache" else ""
        assert Counter(map(status, answers)) == {
            STORED: 1,
            COLLAPSED: 1,
            f"gateway; fwd=request{stored}": 5,
        }


@pytest.mark.parametrize(("toml", "cache"), [("", False), ("[cache]\nenabled = false\n", True)])
async def test_without_a_cache_nobody_shares(tmp_path: Path, toml: str, cache: bool) -> None:
    async with running_gateways(tmp_path, 1, drawing(latency=0.5), toml) as gateways:
        answers = await gateways.crowd(await gateways.key(cache=cache), 10)
        assert gateways.sandbox.counts.calls == 10
        assert set(map(status, answers)) == {"gateway; fwd=bypass"}


async def test_a_request_for_a_fresh_answer_does_not_wait_for_another_gateway(
    tmp_path: Path,
) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=0.5)) as gateways:
        await gateways.crowd(await gateways.key(), 2, headers={"Cache-Control": "no-store"})
        assert gateways.sandbox.counts.calls == 2
