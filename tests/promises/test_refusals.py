"""A refusal consumes nothing: no quota, no money, no call.

Some tests lock the store with another connection, as another process would.
"""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.key_format import parse
from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.rig import FLAT, PRICE, Got, Rig, assert_spent, running_rig
from tests.support.steps import (
    AWAY,
    TOO_MUCH_AT_ONCE,
    USED_UP,
    calls,
    drawing,
    tally,
    until,
)

REFUSED_SECONDS = 4.0
"""After which a request is refused at the latest if the store does not answer."""


@asynccontextmanager
async def slow_rig(
    folder: Path, latency: float, toml: str = FLAT, **environ: str
) -> AsyncIterator[Rig]:
    async with running_rig(folder, toml, drawing(latency=latency), **environ) as rig:
        yield rig


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While another connection holds the write lock of the database."""
    with closing(sqlite3.connect(folder / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def buying(rig: Rig, key: str, number: int, **fields: Any) -> list[asyncio.Task[Got]]:
    """So many distinct requests, under way."""
    return [asyncio.create_task(rig.generate(key, None, **fields)) for _ in range(number)]


# -- limits -------------------------------------------------------------------------------------


async def test_a_request_above_a_whole_limit_is_not_to_be_retried(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        got = await rig.generate(await rig.key(limits=Limits(cost_per_day=150_000)), n=4)
        assert got.error == USED_UP
        named = "Team team's cost_per_day_usd limit of 0.15 is smaller"
        assert got.json["error"]["message"].startswith(named)
        assert got.headers["x-should-retry"] == "false"
        assert got.headers["x-gateway-cost-usd"] == "0"
        await rig.assert_books(0)
        assert rig.sandbox.counts.asked == 0


async def test_one_refusing_limit_leaves_all_the_others_alone(tmp_path: Path) -> None:
    toml = f"{FLAT}\n[limits]\nimages_per_day = 1_000\n"
    limits = Limits(
        images_per_day=5,
        images_per_month=100,
        cost_per_day=100 * PRICE,
        cost_per_month=100 * PRICE,
        requests_per_minute=10,
        concurrent_requests=3,
    )
    async with slow_rig(tmp_path, 0, toml) as rig:
        key = await rig.key(limits=limits)
        assert (await rig.generate(key, None, n=4)).status == 200
        got = await asyncio.gather(*buying(rig, key, 50, n=2))
        assert tally(got) == {USED_UP: 50}
        assert "resets at" in got[0].json["error"]["message"]
        assert (await rig.generate(key, None, n=1)).status == 200
        await rig.assert_books(5)
        assert sum(count for _, count in (await rig.account()).minute) == 2
        assert_spent(await rig.gateway_account(), 5, 5 * PRICE)


async def test_a_failed_purchase_gives_its_slot_and_money_back(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key(limits=Limits(images_per_day=1, concurrent_requests=1))
        rig.sandbox.fault = UpstreamFault(kind="status", status=500)
        for _ in range(10):
            assert (await rig.generate(key)).status == 502
        rig.sandbox.fault = None
        assert (await rig.generate(key)).status == 200
        await rig.assert_books(1)


async def test_too_many_in_flight_costs_nothing(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.3, SERVER_MAX_IN_FLIGHT="10") as rig:
        key = await rig.key()
        got = await asyncio.gather(*buying(rig, key, 100))
        assert tally(got) == {200: 10, (503, "server_error", "overloaded"): 90}
        await rig.assert_books(10)


async def test_calls_whose_clients_have_left_take_room_too(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 1.5, SERVER_MAX_IN_FLIGHT="10") as rig:
        key = await rig.key()
        for _ in range(5):
            for task in (impatient := buying(rig, key, 10)):
                task.add_done_callback(lambda ended: ended.cancelled())
            await asyncio.sleep(0.05)
            for task in impatient:
                task.cancel()
        await until(lambda: rig.sandbox.counts.asked == 10)
        assert len(rig.gateway.proxy.flights) == rig.sandbox.counts.asked == 10
        assert (await rig.generate(key, None)).error == (503, "server_error", "overloaded")
        await until(rig.is_closed)
        await rig.assert_books(10)
        assert (await rig.generate(key, None)).status == 200


async def test_long_client_text_makes_no_record_large(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key()
        asked = buying(rig, key, 20, quality="x" * 100_000)
        assert {got.status for got in await asyncio.gather(*asked)} == {400}
        await rig.assert_books(0)
        rows = await rig.gateway.store.usage.report(("quality",), None, None)
        assert [row.group for row in rows] == [("other",)]


# -- limits of a key ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (Limits(images_per_day=1), USED_UP),
        (Limits(cost_per_month=PRICE), USED_UP),
        (Limits(requests_per_minute=1), TOO_MUCH_AT_ONCE),
        (Limits(concurrent_requests=1), TOO_MUCH_AT_ONCE),
    ],
)
async def test_each_limit_refuses_in_the_keys_name(
    tmp_path: Path, limits: Limits, kind: object
) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        free = await rig.key("team")
        key = await rig.further_key("team", limits=limits)
        if limits.concurrent_requests:
            rig.sandbox.settings.latency = 1
        first = asyncio.create_task(rig.generate(key, None))
        await until(lambda: calls(rig) == 1)
        if not limits.concurrent_requests:
            assert (await first).status == 200
        refused = await rig.generate(key, None)
        assert refused.error == kind
        assert refused.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
        assert (await rig.generate(free, None)).status == 200
        assert (await first).status == 200


async def test_the_headers_show_the_tighter_limit(rig: Rig) -> None:
    wide = await rig.key("team", limits=Limits(images_per_day=10, requests_per_minute=5))
    key = await rig.further_key("team", limits=Limits(images_per_day=3, requests_per_minute=9))
    headers = (await rig.generate(key, None)).headers
    assert headers["x-ratelimit-limit-images"] == "3"
    assert headers["x-ratelimit-remaining-images"] == "2"
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert (await rig.generate(wide, None)).headers["x-ratelimit-remaining-images"] == "8"


async def test_the_keys_of_a_line_share_one_budget_and_one_history(rig: Rig) -> None:
    await rig.key("team")
    old = await rig.further_key("team", limits=Limits(images_per_day=3))
    first = parse(old)
    new = await rig.further_key("team", limits=Limits(images_per_day=3), first=first)
    assert (await rig.generate(old, "a")).status == 200
    assert (await rig.generate(new, "b", n=2)).status == 200
    assert (await rig.generate(new, "a")).headers["Cache-Status"] == "gateway; hit"
    for key in (old, new):
        refused = await rig.generate(key, "c")
        assert refused.error == USED_UP
        assert refused.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
    await rig.gateway.flush()
    (row,) = await rig.gateway.store.usage.report(["key"], None, None)
    assert (row.group, row.images_bought, row.images_cached) == ((first,), 3, 1)


async def test_a_keys_refusal_does_not_reach_other_keys_on_the_same_flight(rig: Rig) -> None:
    free = await rig.key("team")
    for turn in range(10):
        empty = await rig.further_key("team", limits=Limits(images_per_day=0))
        before, prompt = calls(rig), f"picture {turn}"
        answers = asyncio.gather(
            *(rig.generate(key, prompt) for _ in range(10) for key in (empty, free))
        )
        for number, got in enumerate(await answers):
            assert got.status == (200 if number % 2 else 429), got.body
            if got.status == 429:
                assert got.json["error"]["message"].startswith(f"Key sk-gw-{parse(empty)}'s ")
        assert calls(rig) - before == 1


async def test_every_key_is_refused_by_its_own_limit(rig: Rig) -> None:
    await rig.key("team")
    keys = [await rig.further_key("team", limits=Limits(images_per_day=0)) for _ in range(40)]
    for key, got in zip(
        keys, await asyncio.gather(*(rig.generate(key) for key in keys)), strict=True
    ):
        assert got.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
    assert calls(rig) == 0
    last = await rig.further_key("team", limits=Limits(images_per_day=1))
    answers = await asyncio.gather(*(rig.generate(key) for key in [*keys, last]))
    assert Counter(got.status for got in answers) == {429: 40, 200: 1}
    assert calls(rig) == 1


async def test_a_teams_refusal_reaches_all_its_keys(rig: Rig) -> None:
    first = await rig.key("team", limits=Limits(images_per_day=0))
    second = await rig.further_key("team", limits=Limits(images_per_day=1))
    answers = await asyncio.gather(*(rig.generate(key) for key in (first, second) * 20))
    assert tally(answers) == {USED_UP: 40}
    assert all(got.json["error"]["message"].startswith("Team team's") for got in answers)


async def test_a_purchase_by_a_limited_key_is_shared_with_the_others(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.3) as rig:
        await rig.key("team")
        one, other = [
            await rig.further_key("team", limits=Limits(images_per_day=1)) for _ in range(2)
        ]
        answers = await asyncio.gather(*(rig.generate(key) for key in (one, other) * 5))
        assert tally(answers) == {200: 10}
        assert calls(rig) == 1
        assert (await rig.account()).keys.keys() == {parse(one)}


# -- the store is away --------------------------------------------------------------------------


async def test_a_request_is_refused_in_time_while_the_store_is_away(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key()
        assert (await rig.generate(key)).status == 200
        with locked(tmp_path):

            async def ask(delay: float) -> float:
                await asyncio.sleep(delay)
                started = time.monotonic()
                assert (await rig.generate(key, None)).error == AWAY
                return time.monotonic() - started

            # Also requests that come while others already wait.
            waits = await asyncio.gather(*(ask(number / 20) for number in range(40)))
            assert max(waits) < REFUSED_SECONDS
            assert (await rig.generate(key)).headers["Cache-Status"] == "gateway; hit"
        await until(rig.is_closed)
        assert rig.sandbox.counts.asked == 1
        await rig.assert_books(1)


async def test_locks_that_come_and_go_leave_no_orphan(tmp_path: Path) -> None:
    """Locks longer and shorter than callers wait, while many buy, fail and hang up."""
    async with slow_rig(tmp_path, 0.05) as rig:
        key = await rig.key(limits=Limits(images_per_day=100_000, concurrent_requests=10_000))
        chance = random.Random(7)
        ending = asyncio.Event()

        async def shop() -> None:
            while not ending.is_set():
                if chance.random() < 0.05:
                    rig.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=1))
                with_patience = chance.choice((0.02, 0.3, 10))
                try:
                    async with asyncio.timeout(with_patience):
                        await rig.generate(key, None)
                except TimeoutError:
                    continue

        shoppers = [asyncio.create_task(shop()) for _ in range(30)]
        for seconds in (0.2, 1.0, 2.2, 0.5):
            await asyncio.sleep(0.3)
            with locked(tmp_path):
                await asyncio.sleep(seconds)
        ending.set()
        await asyncio.gather(*shoppers)
        await until(lambda: not len(rig.gateway.proxy.flights))
        await until(rig.is_closed)
        drawn = rig.sandbox.counts.images_drawn
        assert drawn > 50
        await rig.assert_books(drawn)
