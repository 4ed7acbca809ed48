"""Single flight, end to end: identical requests at the same time are bought once."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import Fault
from tests.support.money import drawing
from tests.support.rig import FLAT, Got, Rig, running_rig
from tests.support.steps import calls, metric, status, until

COLLAPSED = "gateway; fwd=miss; collapsed"
CROWD = 200
EXACT = Limits(images_per_day=1, cost_per_day=40_000, concurrent_requests=1, requests_per_minute=1)
"""Limits that one purchase fills: a second one would be refused."""


async def crowd(rig: Rig, key: str, size: int = CROWD) -> list[Got]:
    return list(await asyncio.gather(*(rig.generate(key) for _ in range(size))))


async def test_200_at_once_are_one_call_and_one_charge(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1)) as rig:
        key = await rig.key(limits=EXACT)
        answers = await crowd(rig, key)
        assert calls(rig) == 1
        assert Counter(map(status, answers)) == {
            "gateway; fwd=miss; stored": 1,
            COLLAPSED: CROWD - 1,
        }
        assert len({got.body for got in answers}) == 1
        costs = Counter(got.headers["x-gateway-cost-usd"] for got in answers)
        assert costs == {"0.04": 1, "0": CROWD - 1}
        usage = await rig.usage()
        assert (usage.requests, usage.images_bought, usage.cost) == (CROWD, 1, 40_000)
        assert (usage.images_cached, usage.saved) == (CROWD - 1, (CROWD - 1) * 40_000)
        assert not (await rig.account()).holds
        assert await metric(rig, "gateway_flights_total", role="lead") == 1
        assert await metric(rig, "gateway_flights_total", role="follow") == CROWD - 1
        assert await metric(rig, "gateway_flights_total", role="remote") == 0
        assert status(await rig.generate(key)) == "gateway; hit"


async def test_the_keys_of_a_team_share_a_flight_and_other_teams_do_not(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        first, second = await rig.key("red"), await rig.further_key("red")
        other = await rig.key("blue")
        answers = await asyncio.gather(*(rig.generate(key) for key in (first, second, other)))
        assert Counter(map(status, answers))[COLLAPSED] == 1
        assert calls(rig) == 2


async def test_the_first_client_leaving_changes_nothing_for_the_others(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1.5)) as rig:
        key = await rig.key(limits=EXACT)
        first = asyncio.create_task(rig.generate(key))
        await until(lambda: calls(rig) == 1)
        others = asyncio.create_task(crowd(rig, key, CROWD - 1))
        await asyncio.sleep(0.5)
        first.cancel()
        assert Counter(map(status, await others)) == {COLLAPSED: CROWD - 1}
        assert calls(rig) == 1
        usage = await rig.usage()
        assert (usage.images_bought, usage.cost) == (1, 40_000)


async def test_a_hang_up_loses_nothing(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1)) as rig:
        key = await rig.key(limits=EXACT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.generate(key), 0.3)
        await until(lambda: len(rig.gateway.proxy.flights) == 0)
        hit = await rig.generate(key)
        assert status(hit) == "gateway; hit"
        assert calls(rig) == 1
        usage = await rig.usage()
        assert (usage.images_bought, usage.cost, usage.saved) == (1, 40_000, 40_000)


async def test_a_retry_after_a_hang_up_joins_the_flight(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=1)) as rig:
        key = await rig.key(limits=EXACT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.generate(key), 0.3)
        assert status(await rig.generate(key)) == COLLAPSED
        assert calls(rig) == 1


async def test_a_hang_up_is_no_error_of_ours(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.6)) as rig:
        key = await rig.key()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rig.generate(key), 0.2)
        await until(lambda: len(rig.gateway.proxy.flights) == 0)
        left = {"outcome": "client_closed", "team": "team"}
        assert await metric(rig, "gateway_requests_total", **left) == 1
        assert await metric(rig, "gateway_requests_total") == 1
        assert await metric(rig, "gateway_in_flight_requests") == 0


@pytest.mark.parametrize("code", [500, 502])
async def test_a_failure_is_told_to_all_at_once(tmp_path: Path, code: int) -> None:
    latency = 1.0
    async with running_rig(tmp_path, FLAT, drawing(latency=latency)) as rig:
        key = await rig.key()
        rig.sandbox.fault = Fault(kind="status", status=code)
        started = time.monotonic()
        answers = await crowd(rig, key)
        assert time.monotonic() - started < 10 * latency  # one after the other would take minutes
        assert {got.status for got in answers} == {502}
        assert calls(rig) <= 2
        usage = await rig.usage()
        assert usage.images_bought == usage.images_unknown == (0 if code == 500 else calls(rig))


async def test_a_refusal_is_told_to_all_and_then_forgotten(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        key = await rig.key(limits=Limits(images_per_day=0))
        assert {got.error[2] for got in await crowd(rig, key, 20)} == {"insufficient_quota"}
        await rig.key()
        assert status(await rig.generate(key)) == "gateway; fwd=miss; stored"


@pytest.mark.parametrize("directive", ["no-cache", "no-store"])
async def test_who_wants_a_fresh_answer_never_shares(tmp_path: Path, directive: str) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        key = await rig.key()
        fresh = {"Cache-Control": directive}
        answers = await asyncio.gather(
            rig.generate(key),
            *(rig.generate(key, headers=fresh) for _ in range(5)),
            rig.generate(key),
        )
        assert calls(rig) == 6
        told = Counter(map(status, answers))
        stored = "; stored" if directive == "no-cache" else ""
        assert told == {
            "gateway; fwd=miss; stored": 1,
            COLLAPSED: 1,
            f"gateway; fwd=request{stored}": 5,
        }


async def test_a_team_without_cache_never_shares(tmp_path: Path) -> None:
    async with running_rig(tmp_path, sandbox=drawing(latency=0.5)) as rig:
        key = await rig.key(cache=False)
        answers = await crowd(rig, key, 10)
        assert calls(rig) == 10
        assert Counter(map(status, answers)) == {"gateway; fwd=bypass": 10}


async def test_without_any_cache_nobody_shares(tmp_path: Path) -> None:
    off = "[cache]\nenabled = false\n"
    async with running_rig(tmp_path, off, drawing(latency=0.5)) as rig:
        await crowd(rig, await rig.key(), 10)
        assert calls(rig) == 10


async def test_followers_of_a_short_answer_get_it_too(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.5)) as rig:
        key = await rig.key()
        rig.sandbox.fault = Fault(kind="fewer", images=3, times=1)
        answers = await asyncio.gather(*(rig.generate(key, n=4) for _ in range(5)))
        assert {len(got.json["data"]) for got in answers} == {3}
        assert {status(got) for got in answers} == {"gateway; fwd=miss", COLLAPSED}
        usage = await rig.usage()
        assert (usage.images_bought, usage.images_cached) == (3, 12)
        assert usage.saved == 4 * 120_000


async def test_many_pictures_by_many_at_once_are_each_bought_once(tmp_path: Path) -> None:
    """Waves that come while flights land: the gap between landing and being kept is none."""
    async with running_rig(tmp_path, FLAT, drawing(latency=0.05)) as rig:
        key = await rig.key()

        async def wave(number: int) -> None:
            await asyncio.sleep(number * 0.002)
            got = await rig.generate(key, f"prompt {number % 7}")
            assert got.status == 200

        await asyncio.gather(*(wave(number) for number in range(300)))
        assert calls(rig) == 7
        assert (await rig.usage()).images_bought == 7


async def test_a_connection_that_breaks_off_is_a_hang_up(tmp_path: Path) -> None:
    """Not a tidy close but a reset, in the middle of the wait."""
    async with running_rig(tmp_path, FLAT, drawing(latency=0.6)) as rig:
        key = await rig.key()
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(
                session.post(
                    f"{rig.url}/v1/images/generations",
                    headers={"Authorization": f"Bearer {key}"},
                    json={"prompt": "reset"},
                )
            )
            await until(lambda: calls(rig) == 1)
            asking.cancel()
        await until(lambda: len(rig.gateway.proxy.flights) == 0)
        assert status(await rig.generate(key, "reset")) == "gateway; hit"
