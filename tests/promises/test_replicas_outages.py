"""A Redis that is killed, frozen, emptied or full: nothing is sold on a guess, nothing is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.core.model import Limits
from tests.support.money import AWAY, USED_UP, drawing, tally, until
from tests.support.redis import RedisServer, running_redis
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, PROMPT, Got

pytestmark = pytest.mark.alone

PATIENCE_SECONDS = 2.0
"""How long a caller waits for a Redis that is away."""

SLACK_SECONDS = 1.5
"""What a busy machine may take besides."""


@asynccontextmanager
async def outage(
    folder: Path, latency: float, appendonly: str = "yes"
) -> AsyncIterator[tuple[RedisServer, Replicas]]:
    """Four gateways over a Redis that keeps what it is told, unless it has no append-only file."""
    async with (
        running_redis(folder / "redis", appendonly=appendonly) as redis,
        running_replicas(folder, redis.url, FLAT, drawing(latency=latency)) as replicas,
    ):
        yield redis, replicas


async def until_asked(replicas: Replicas, number: int) -> None:
    """Wait until so many calls have arrived upstream."""
    await until(lambda: replicas.sandbox.counts.asked == number)


async def keep(replicas: Replicas, key: str) -> None:
    """Have one picture bought, and in the memory of every gateway."""
    settings = replicas.sandbox.settings
    settings.latency, latency = 0, settings.latency
    for gateway in replicas.gateways:
        assert (await gateway.generate(key, PROMPT)).status == 200
    settings.latency = latency


async def assert_hits(replicas: Replicas, key: str) -> None:
    """Every gateway answers from its memory."""
    hits = [await gateway.generate(key, PROMPT) for gateway in replicas.gateways]
    assert {got.headers.get("Cache-Status") for got in hits} == {"gateway; hit"}


async def timed(replicas: Replicas, key: str) -> tuple[float, Got]:
    """An answer, and how many seconds it took."""
    started = time.monotonic()
    got = await replicas.generate(key)
    return time.monotonic() - started, got


# -- killed -------------------------------------------------------------------------------------


async def test_killed_and_started_again(tmp_path: Path) -> None:
    async with outage(tmp_path, latency=3) as (redis, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        await keep(replicas, key)
        under_way = replicas.buying(key, 40)
        await until_asked(replicas, 41)
        await redis.kill()
        refused = await asyncio.gather(*(timed(replicas, key) for _ in range(40)))
        assert tally(got for _, got in refused) == {AWAY: 40}
        assert max(seconds for seconds, _ in refused) < PATIENCE_SECONDS + SLACK_SECONDS
        await assert_hits(replicas, key)
        assert tally(await asyncio.gather(*under_way)) == {200: 40}
        assert replicas.sandbox.counts.asked == 41
        await redis.start()
        await until(replicas.is_closed, PATIENCE_SECONDS + SLACK_SECONDS)
        await replicas.assert_books("team", 41)
        got = await asyncio.gather(*replicas.buying(key, 63))
        assert tally(got) == {200: 59, USED_UP: 4}
        await replicas.assert_books("team", 100)


# -- frozen -------------------------------------------------------------------------------------


async def test_frozen_for_10_seconds_under_50_requests_a_second(tmp_path: Path) -> None:
    latency, before, frozen, after = 0.2, 2.0, 10.0, 2.0
    async with outage(tmp_path, latency) as (redis, replicas):
        counts = replicas.sandbox.counts
        # More than are asked for before and after, so that nothing else refuses.
        key = await replicas.key(limits=Limits(images_per_day=400))
        await keep(replicas, key)

        async def ask(number: int) -> tuple[float, Got]:
            await asyncio.sleep(number / 50)
            return await timed(replicas, key)

        number = int(50 * (before + frozen + after))
        asked = [asyncio.create_task(ask(each)) for each in range(number)]
        await asyncio.sleep(before)
        redis.freeze()
        try:
            await asyncio.sleep(1)  # what was admitted before is on its way
            admitted = counts.asked
            await asyncio.sleep(frozen - 2)
            await assert_hits(replicas, key)
            await asyncio.sleep(1)
            assert counts.asked == admitted
        finally:
            redis.thaw()
        answers = await asyncio.gather(*asked)
        assert tally(got for _, got in answers).keys() == {200, AWAY}
        slowest = max(seconds for seconds, _ in answers)
        assert slowest < PATIENCE_SECONDS + latency + SLACK_SECONDS
        await until(replicas.is_closed)
        assert counts.asked > admitted
        await replicas.assert_books("team", counts.images_drawn)
        while tally(got := await asyncio.gather(*replicas.buying(key, 20)))[200]:
            assert tally(got).keys() <= {200, USED_UP}
        assert counts.images_drawn == 400
        await replicas.assert_books("team", 400)


# -- emptied ------------------------------------------------------------------------------------


async def flushed(redis: RedisServer) -> None:
    async with redis.client() as client:
        await client.flushall()


async def started_without_data(redis: RedisServer) -> None:
    await redis.kill()
    await redis.start()


@pytest.mark.parametrize("lose", [flushed, started_without_data])
async def test_emptied_nothing_is_sold_until_an_operator_confirms(
    tmp_path: Path, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with outage(tmp_path, latency=1, appendonly="no") as (redis, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        await keep(replicas, key)
        under_way = replicas.buying(key, 20)
        await until_asked(replicas, 21)
        await lose(redis)
        for _ in range(3):
            got = await asyncio.gather(*replicas.buying(key, 20))
            assert tally(got) == {AWAY: 20}
        await assert_hits(replicas, key)
        assert tally(await asyncio.gather(*under_way)) == {200: 20}
        assert replicas.sandbox.counts.asked == 21
        for gateway in replicas.gateways:
            assert any("confirm-reset" in line.get("event", "") for line in gateway.lines())
        await replicas.operator("store", "confirm-reset")
        # The teams and their keys are lost too: the operator makes them anew. What was under way is
        # charged to them, now that it can be written.
        teams = tmp_path / "teams.toml"
        teams.write_text("[teams.team.limits]\nimages_per_day = 40\n")
        await replicas.operator("teams", "apply", str(teams))
        new = await replicas.operator("keys", "create", "--team", "team")

        async def sell_again() -> bool:
            answers = [await gateway.models(new) for gateway in replicas.gateways]
            return {got.status for got in answers} == {200}

        await until(sell_again)
        assert {(await gateway.models(key)).status for gateway in replicas.gateways} == {401}

        async def charged() -> bool:
            return (await replicas.account("team")).day.images == 20

        await until(charged)
        got = await asyncio.gather(*replicas.buying(new, 30))
        assert tally(got) == {200: 20, USED_UP: 10}


# -- full ---------------------------------------------------------------------------------------


async def test_full_nothing_is_sold_and_nothing_lost(tmp_path: Path) -> None:
    async with outage(tmp_path, latency=1) as (redis, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        await keep(replicas, key)
        under_way = replicas.buying(key, 20)
        await until_asked(replicas, 21)
        async with redis.client() as client:
            used = (await client.info("memory"))["used_memory"]
            await client.config_set("maxmemory", used // 2)
            refused = await asyncio.gather(*(timed(replicas, key) for _ in range(20)))
            assert tally(got for _, got in refused) == {AWAY: 20}
            assert max(seconds for seconds, _ in refused) < PATIENCE_SECONDS + SLACK_SECONDS
            await assert_hits(replicas, key)
            assert tally(await asyncio.gather(*under_way)) == {200: 20}
            assert replicas.sandbox.counts.asked == 21
            await client.config_set("maxmemory", 0)
        await until(replicas.is_closed)
        await replicas.assert_books("team", 21)
        got = await asyncio.gather(*replicas.buying(key, 83))
        assert tally(got) == {200: 79, USED_UP: 4}
