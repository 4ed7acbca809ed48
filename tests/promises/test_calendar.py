"""Days and months: a budget opens at midnight UTC; a call counts for the day that admitted it."""

import asyncio
import time
from pathlib import Path
from typing import Any

from gateway.core.model import Limits
from gateway.core.periods import end_of_month, month_of
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held, Settle
from gateway.stores.redis.names import META
from gateway.stores.sqlite import SqliteStore
from tests.support.quota_steps import reserve
from tests.support.replicas import Replicas, mortally, running_replicas
from tests.support.rig import FLAT, PRICE, assert_spent
from tests.support.steps import USED_UP, drawing, tally, until

NOON = 1_772_366_400.0
"""2026-03-01 12:00:00 UTC."""


async def is_admitted(folder: Path, at: float) -> bool:
    """Buy two images of two a day over a store with this clock. A whole gateway's cannot be set."""
    limits = Limits(images_per_day=2)
    async with SqliteStore(folder / "gateway.db", wall=lambda: at, monotonic=lambda: at) as store:
        ledger = Ledger(store.accounts, spread=lambda: 0.5)
        await ledger.start()
        held = await ledger.reserve(reserve(f"{at}", limits=limits, images=2))
        if isinstance(held, Held):
            await ledger.finish(Settle(id=f"{at}", team="red", images=2, cost=2 * PRICE))
        assert await ledger.close(5)
    return isinstance(held, Held)


async def test_a_clock_set_back_over_a_restart_opens_no_budget_twice(tmp_path: Path) -> None:
    assert await is_admitted(tmp_path, NOON)
    assert not await is_admitted(tmp_path, NOON - 86_400)
    assert await is_admitted(tmp_path, NOON + 86_400)


# -- several gateways ---------------------------------------------------------------------------

BOUNDARY = end_of_month(month_of(time.time()) + 1)
"""Midnight at the end of next month: more than four weeks ahead."""

BEFORE, AFTER = BOUNDARY - 60, BOUNDARY + 60

TOML = f"{FLAT}\n[limits]\nimages_per_day = 20\n"

TWO = (0.0, -30.0)
"""Shifts of the clocks of two gateways."""

QUICK: dict[str, Any] = {"UPSTREAM_CONNECT_SECONDS": "1", "UPSTREAM_TIMEOUT_SECONDS": "3"}

LIMITS = {
    "day": Limits(images_per_day=20),
    "month": Limits(images_per_month=20),
    "money": Limits(cost_per_day=800_000, cost_per_month=800_000),
}


async def set_clock(replicas: Replicas, at: float) -> None:
    """Set the store's clock.

    Redis' own clock cannot be set. But the store's clock never runs backwards: if its mark is
    ahead, as after a server's clock was set back, it goes on from the mark.
    """
    async with replicas.redis.client() as client:
        seconds, micros = await client.time()
        marks = {b"clock": int(at * 1e6), b"clock_wall": seconds * 1_000_000 + micros}
        for name, mark in marks.items():
            await client.hset(META, name, mark)


async def by_day(replicas: Replicas, team: str) -> list[int]:
    """The images bought on each day. A day with refused requests alone has a row, too: left out."""
    rows = await replicas.store.usage.report(("day",), None, None, team)
    return [row.images_bought for row in rows if row.images_bought]


async def test_calls_over_midnight_belong_to_the_time_that_admitted_them(tmp_path: Path) -> None:
    async with running_replicas(tmp_path, FLAT, drawing(latency=3), shifts=TWO) as replicas:
        keys = {team: await replicas.key(team, limits=of) for team, of in LIMITS.items()}
        await set_clock(replicas, BEFORE)
        late = {team: replicas.buying(key, 20) for team, key in keys.items()}
        await until(lambda: replicas.sandbox.counts.asked == 60)
        for key in keys.values():
            assert (await replicas.generate(key)).status == 429
        await set_clock(replicas, AFTER)
        # The new day is whole, though nothing of the old one is settled yet.
        early = {team: replicas.buying(key, 30) for team, key in keys.items()}
        for team in keys:
            assert tally(await asyncio.gather(*late[team])) == {200: 20}
            assert tally(await asyncio.gather(*early[team]))[200] == 20
            assert await by_day(replicas, team) == [20, 20]
            assert_spent(await replicas.account(team), 20, 800_000)
        assert replicas.sandbox.counts.asked == 120


async def test_a_dead_gateways_calls_are_charged_to_the_day_that_admitted_them(
    tmp_path: Path,
) -> None:
    slow = drawing(latency=1)
    async with running_replicas(tmp_path, TOML, slow, shifts=TWO, **QUICK) as replicas:
        key = await replicas.key(limits=LIMITS["month"])
        await set_clock(replicas, BEFORE)
        lost = [asyncio.create_task(mortally(replicas.gateways[0], key)) for _ in range(20)]
        await until(lambda: replicas.sandbox.counts.asked == 20)
        await replicas.kill(replicas.gateways[0])
        await asyncio.gather(*lost)
        await set_clock(replicas, AFTER)
        await until(replicas.is_closed)
        assert await by_day(replicas, "team") == [20]
        got = await asyncio.gather(*replicas.buying(key, 30))
        assert tally(got) == {200: 20, USED_UP: 10}
        assert await by_day(replicas, "team") == [20, 20]
        for account in (await replicas.account(), await replicas.gateway_account()):
            assert_spent(account, 20, 800_000)
