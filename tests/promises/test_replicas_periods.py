"""Calls over midnight and over the end of a month, at several gateways, by the store's clock.

The Redis' own clock cannot be set. But the store's never runs backwards: where its mark lies
ahead, as after a server's clock was set back, it goes on from there.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.core.model import Limits
from gateway.core.periods import end_of_month, month_of
from gateway.stores.redis.names import META
from tests.support.money import USED_UP, assert_spent, drawing, tally, until
from tests.support.redis import RedisServer, running_redis
from tests.support.replicas import Replicas, mortally, running_replicas
from tests.support.rig import FLAT

BOUNDARY = end_of_month(month_of(time.time()) + 1)
"""Midnight at the end of next month: more than four weeks ahead."""

BEFORE, AFTER = BOUNDARY - 60, BOUNDARY + 60

TOML = f"{FLAT}\n[limits]\nimages_per_day = 20\n"

QUICK = {"UPSTREAM_CONNECT_SECONDS": "1", "UPSTREAM_TIMEOUT_SECONDS": "3"}

LIMITS = {
    "day": Limits(images_per_day=20),
    "month": Limits(images_per_month=20),
    "money": Limits(cost_per_day=800_000, cost_per_month=800_000),
}


@asynccontextmanager
async def replicas_at(
    folder: Path, latency: float, toml: str = FLAT, **environ: str
) -> AsyncIterator[tuple[RedisServer, Replicas]]:
    async with (
        running_redis(folder / "redis") as redis,
        running_replicas(folder, redis.url, toml, drawing(latency=latency), **environ) as replicas,
    ):
        yield redis, replicas


async def set_clock(redis: RedisServer, at: float) -> None:
    """Let the store's clock go on from here."""
    async with redis.client() as client:
        seconds, micros = await client.time()
        marks = {b"clock": int(at * 1e6), b"clock_wall": seconds * 1_000_000 + micros}
        for name, mark in marks.items():
            await client.hset(META, name, mark)


async def by_day(replicas: Replicas, team: str) -> list[int]:
    """The images bought on each day."""
    rows = await replicas.store.usage.report(("day",), None, None, team)
    return [row.images_bought for row in rows]


async def test_calls_over_midnight_belong_to_the_time_that_admitted_them(tmp_path: Path) -> None:
    async with replicas_at(tmp_path, latency=3) as (redis, replicas):
        keys = {team: await replicas.key(team, limits=of) for team, of in LIMITS.items()}
        await set_clock(redis, BEFORE)
        late = {team: replicas.buying(key, 20) for team, key in keys.items()}
        await until(lambda: replicas.sandbox.counts.asked == 60)
        for key in keys.values():
            assert (await replicas.generate(key)).status == 429
        await set_clock(redis, AFTER)
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
    async with replicas_at(tmp_path, 1, TOML, **QUICK) as (redis, replicas):
        key = await replicas.key(limits=LIMITS["month"])
        await set_clock(redis, BEFORE)
        lost = [asyncio.create_task(mortally(replicas.gateways[0], key)) for _ in range(20)]
        await until(lambda: replicas.sandbox.counts.asked == 20)
        await replicas.kill(replicas.gateways[0])
        await asyncio.gather(*lost)
        await set_clock(redis, AFTER)
        await until(replicas.is_closed)
        assert await by_day(replicas, "team") == [20]
        got = await asyncio.gather(*replicas.buying(key, 30))
        assert tally(got) == {200: 20, USED_UP: 10}
        assert await by_day(replicas, "team") == [20, 20]
        for account in (await replicas.account(), await replicas.gateway_account()):
            assert_spent(account, 20, 800_000)
