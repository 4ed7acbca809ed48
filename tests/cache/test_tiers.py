"""Memory in front of a real Redis: which tier is read, how often, and for how long it stores."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.answers import answer, key
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_cache import CacheReplica


async def test_a_hit_in_memory_does_not_wait(here: CacheReplica) -> None:
    bought = answer()
    await here.tiers.set(key(1), bought, ttl=60)
    getting = here.tiers.get(key(1))
    with pytest.raises(StopIteration) as stopped:
        getting.send(None)  # if it waited, this would return
    assert stopped.value.value is bought
    assert here.lookups == []


async def test_memory_stores_an_answer_of_another_replica_for_the_rest_of_its_life(
    here: CacheReplica, there: CacheReplica
) -> None:
    bought = answer()
    await there.tiers.set(key(1), bought, ttl=60)
    await there.tiers.set(key(2), bought, ttl=None)
    await asyncio.sleep(0.3)
    for number in (1, 2):
        first, second = [await here.tiers.get(key(number)) for _ in range(2)]
        assert first.body == second.body == bought.body
        assert (first.tier, second.tier) == ("redis", "memory")
    assert here.lookups == ["hit", "hit"]
    left = {entry.key: entry.left for entry in here.memory.living()}
    assert 40 < left[key(1)] < 59.8
    assert left[key(2)] == float("inf")


async def test_a_look_leaves_no_trace(here: CacheReplica, there: CacheReplica) -> None:
    bought = answer()
    await there.tiers.set(key(1), bought, ttl=60)
    assert await here.tiers.look(key(2)) is None
    seen = await here.tiers.look(key(1))
    assert seen is not None
    assert (seen.body, seen.tier) == (bought.body, "redis")
    assert (here.lookups, len(here.memory)) == ([], 0)
    await here.tiers.get(key(1))
    again = await here.tiers.look(key(1))
    assert again is not None
    assert again.tier == "memory"
    assert await here.memory.most_hits(10) == []


@pytest.mark.parametrize("kept", [True, False])
async def test_concurrent_reads_of_a_key_share_one_read_of_redis(
    here: CacheReplica, there: CacheReplica, kept: bool
) -> None:
    bought = answer(random.randbytes(2_000_000))
    if kept:
        await there.tiers.set(key(1), bought, ttl=60)
    found = await asyncio.gather(*(here.tiers.get(key(1)) for _ in range(200)))
    assert [got and got.body for got in found] == [bought.body if kept else None] * 200
    assert here.lookups == ["hit" if kept else "miss"]


async def test_a_client_that_disconnects_does_not_cancel_a_shared_read(
    here: CacheReplica, there: CacheReplica
) -> None:
    bought = answer()
    await there.tiers.set(key(1), bought, ttl=60)
    reads = [asyncio.create_task(here.tiers.get(key(1))) for _ in range(10)]
    await asyncio.sleep(0)
    reads[0].cancel()
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [got.body for got in found[1:]] == [bought.body] * 9  # type: ignore[union-attr]
    assert here.lookups == ["hit"]


async def test_an_answer_bought_during_a_read_outranks_it(
    redis_server: RedisServer, here: CacheReplica, there: CacheReplica
) -> None:
    await there.tiers.set(key(1), answer(), ttl=60)
    redis_server.freeze()
    getting = asyncio.create_task(here.tiers.get(key(1)))
    await asyncio.sleep(0)
    bought = answer()
    await here.memory.set(key(1), bought, ttl=60)
    redis_server.thaw()
    assert await getting is bought
    assert await here.tiers.get(key(1)) is bought


async def test_an_answer_needs_room_in_one_tier(tmp_path: Path) -> None:
    bought = answer(bytes(1_000))
    async with (
        running_redis(tmp_path) as server,
        CacheReplica(server.url) as here,
        CacheReplica(server.url, max_bytes=500) as small,
    ):
        assert await small.tiers.set(key(1), bought, ttl=60)
        assert len(small.memory) == 0
        assert (await small.tiers.get(key(1))).body == bought.body
        await server.kill()
        assert not await small.tiers.set(key(2), bought, ttl=60)
        assert await here.tiers.set(key(2), bought, ttl=60)
        assert await here.tiers.get(key(2)) is bought
        assert await here.tiers.get(key(1)) is None


async def test_deleted_and_cleared_answers_leave_both_tiers(
    here: CacheReplica, there: CacheReplica
) -> None:
    for remove in (lambda: here.tiers.delete(key(1)), here.tiers.clear):
        assert await here.tiers.set(key(1), answer(), ttl=60)
        assert await remove()
        assert await there.tiers.get(key(1)) is None
        assert await here.tiers.get(key(1)) is None


async def test_closing_does_not_wait_for_a_frozen_redis(redis_server: RedisServer) -> None:
    async with asyncio.timeout(20):
        async with CacheReplica(redis_server.url) as replica:
            redis_server.freeze()
            reading = asyncio.create_task(replica.tiers.get(key(1)))
            await asyncio.sleep(0)
        await asyncio.gather(reading, return_exceptions=True)
