"""Memory before a real Redis: who is asked, how often, and what is kept for how long."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import pytest

from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.cache.seal import Seal
from gateway.cache.tiers import TieredCache
from gateway.config.store_url import parse_store_url
from gateway.telemetry.observer import Observer
from tests.support.answers import answer, key
from tests.support.money import until
from tests.support.redis import RedisServer, running_redis


class Tiers(Observer):
    """The two tiers of one gateway, both together, and the results of look-ups in Redis."""

    def __init__(self, server: RedisServer, max_bytes: int = 2**26) -> None:
        self.lookups: list[str] = []
        self.memory = MemoryCache(max_bytes, 2**25)
        place = parse_store_url(server.url)
        self.redis = RedisCache(place, Seal(b"pepper"), 2**25, time, self)
        self.cache = TieredCache(self.memory, self.redis, time)

    def cache_lookup(self, tier: str, result: str) -> None:
        self.lookups.append(result)

    async def __aenter__(self) -> "Tiers":
        await self.redis.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cache.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
async def here(server: RedisServer) -> AsyncIterator[Tiers]:
    async with Tiers(server) as tiers:
        yield tiers


@pytest.fixture
async def there(server: RedisServer) -> AsyncIterator[Tiers]:
    async with Tiers(server) as tiers:
        yield tiers


async def test_a_hit_in_memory_waits_for_nothing(here: Tiers) -> None:
    bought = answer()
    await here.cache.set(key(1), bought, ttl=60)
    getting = here.cache.get(key(1))
    with pytest.raises(StopIteration) as stopped:
        getting.send(None)  # a wait would come out here
    assert stopped.value.value is bought
    assert here.lookups == []


async def test_an_answer_of_another_replica_is_then_stored_in_memory(
    here: Tiers, there: Tiers
) -> None:
    bought = answer()
    await there.cache.set(key(1), bought, ttl=60)
    first = await here.cache.get(key(1))
    second = await here.cache.get(key(1))
    assert first.body == second.body == bought.body
    assert (first.tier, second.tier) == ("redis", "memory")
    assert here.lookups == ["hit"]


async def test_an_answer_in_neither_tier_is_a_miss(here: Tiers) -> None:
    assert await here.cache.get(key(1)) is None
    assert here.lookups == ["miss"]


@pytest.mark.parametrize("kept", [True, False])
async def test_concurrent_reads_of_a_key_share_one_read_of_redis(
    here: Tiers, there: Tiers, kept: bool
) -> None:
    bought = answer(random.randbytes(2_000_000))
    if kept:
        await there.cache.set(key(1), bought, ttl=60)
    found = await asyncio.gather(*(here.cache.get(key(1)) for _ in range(200)))
    assert [got and got.body for got in found] == [bought.body if kept else None] * 200
    assert here.lookups == ["hit" if kept else "miss"]


async def test_a_client_that_disconnects_does_not_cancel_a_shared_read(
    here: Tiers, there: Tiers
) -> None:
    bought = answer()
    await there.cache.set(key(1), bought, ttl=60)
    asking = [asyncio.create_task(here.cache.get(key(1))) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [got.body for got in found[1:]] == [bought.body] * 9  # type: ignore[union-attr]
    assert here.lookups == ["hit"]


async def test_memory_stores_an_answer_for_the_rest_of_its_life(here: Tiers, there: Tiers) -> None:
    await there.cache.set(key(1), answer(), ttl=60)
    await there.cache.set(key(2), answer(), ttl=None)
    await asyncio.sleep(0.3)
    for number in (1, 2):
        await here.cache.get(key(number))
    left = {name: seconds for name, _, seconds in here.memory.living()}
    assert 40 < left[key(1)] < 59.8
    assert left[key(2)] == float("inf")


async def test_an_answer_bought_during_a_read_outranks_it(
    server: RedisServer, here: Tiers, there: Tiers
) -> None:
    await there.cache.set(key(1), answer(), ttl=60)
    server.freeze()
    getting = asyncio.create_task(here.cache.get(key(1)))
    await asyncio.sleep(0)
    bought = answer()
    await here.memory.set(key(1), bought, ttl=60)
    server.thaw()
    assert await getting is bought
    assert await here.cache.get(key(1)) is bought


async def test_one_tier_is_enough(server: RedisServer, here: Tiers) -> None:
    bought = answer(bytes(1_000))
    async with Tiers(server, max_bytes=500) as small:
        assert await small.cache.set(key(1), bought, ttl=60)
        assert len(small.memory) == 0
        assert (await small.cache.get(key(1))).body == bought.body
    await server.kill()
    assert await here.cache.set(key(2), bought, ttl=60)
    assert await here.cache.get(key(2)) is bought
    assert await here.cache.get(key(1)) is None


async def test_an_answer_that_no_tier_takes_is_not_stored(server: RedisServer) -> None:
    async with Tiers(server, max_bytes=500) as small:
        await server.kill()
        assert not await small.cache.set(key(1), answer(bytes(1_000)), ttl=60)


async def test_deleted_and_cleared_answers_leave_both_tiers(here: Tiers, there: Tiers) -> None:
    for remove in (lambda: here.cache.delete(key(1)), here.cache.clear):
        assert await here.cache.set(key(1), answer(), ttl=60)
        assert await remove()
        assert await there.cache.get(key(1)) is None
        assert await here.cache.get(key(1)) is None


async def test_a_redis_that_comes_back_is_used_again(server: RedisServer, here: Tiers) -> None:
    await server.kill()
    assert await here.cache.get(key(1)) is None
    await server.start()

    async def kept_in_redis() -> bool:
        return bool(await here.redis.set(key(1), answer(), ttl=60))

    await until(kept_in_redis)
    assert await here.cache.get(key(1)) is not None


async def test_closing_does_not_wait_for_a_frozen_redis(server: RedisServer) -> None:
    async with asyncio.timeout(20):
        async with Tiers(server) as tiers:
            server.freeze()
            reading = asyncio.create_task(tiers.cache.get(key(1)))
            await asyncio.sleep(0)
        await asyncio.gather(reading, return_exceptions=True)
