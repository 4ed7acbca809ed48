"""Answers in a real Redis: how long they live, and which values are never served."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.cache.codec import SEAL_BYTES, CachedAnswer, Seal, encode
from gateway.cache.redis import LARGE_BYTES, PREFIX, RedisCache
from gateway.cache.redis_connection import CONNECTIONS
from gateway.core.model import Bought
from tests.support.answers import answer, key
from tests.support.clocks import Clock
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_cache import SEAL, CacheReplica, found_in
from tests.support.steps import until

DAY = 86_400.0
NAME = f"{PREFIX}{SEAL.mark}:{key(1)}"
"""Where Redis has the answer of `key(1)`."""


@pytest.fixture
def cache(here: CacheReplica) -> RedisCache:
    return here.redis


def same(one: Bought | None, other: Bought) -> bool:
    """Whether they are one answer; times pass over another clock and back."""
    return (
        one is not None
        and (one.body, one.images, one.cost, one.kept)
        == (other.body, other.images, other.cost, other.kept)
        and abs(one.at - other.at) < 1
    )


# -- the interface ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, LARGE_BYTES, 5_000_000])
async def test_every_replica_gets_a_stored_answer(
    here: CacheReplica, there: CacheReplica, size: int
) -> None:
    for bought in (answer(random.randbytes(size)), answer()):  # the second replaces the first
        assert await here.redis.set(key(1), bought)
        assert same(await found_in(there.redis, key(1)), bought)
    assert await found_in(there.redis, key(2)) is None


async def test_deleting_and_clearing_leave_the_answers_of_other_stores(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    """Although their teams, and so their fingerprints, may be the same."""
    theirs = answer()
    async with (
        redis_server.client() as client,
        CacheReplica(redis_server.url, seal=Seal(b"another pepper")) as other,
    ):
        for number in range(20):
            await cache.set(key(number), answer())
        assert await client.exists(NAME)
        assert await found_in(other.redis, key(1)) is None
        await other.redis.set(key(1), theirs)
        assert [await cache.delete(key(1)) for _ in range(2)] == [1, 0]
        assert await found_in(cache, key(1)) is None
        assert await client.dbsize() == 20
        assert await cache.clear()
        assert await client.dbsize() == 1
        assert same(await found_in(other.redis, key(1)), theirs)


async def test_an_answer_that_is_too_long_is_not_stored(redis_server: RedisServer) -> None:
    async with CacheReplica(redis_server.url, max_entry_bytes=100) as replica:
        assert await replica.redis.set(key(1), answer(b"x" * 100))
        assert not await replica.redis.set(key(2), answer(b"x" * 101))
        assert await found_in(replica.redis, key(2)) is None


# -- time ---------------------------------------------------------------------------------------


async def test_an_answer_lives_for_its_time(redis_server: RedisServer, cache: RedisCache) -> None:
    async with redis_server.client() as client:
        await cache.set(key(1), answer(), ttl=None)
        assert await client.pttl(NAME) == -1
        bought = answer()
        await cache.set(key(1), bought, ttl=0.75)
        assert 0 < await client.pttl(NAME) <= 750

        async def is_gone() -> bool:
            return await found_in(cache, key(1)) is None and not await client.exists(NAME)

        await until(is_gone)
    assert time.time() - bought.at >= 0.5


@pytest.mark.parametrize("ahead", [-DAY, -30.0, 30.0, DAY])
async def test_clocks_that_differ_change_neither_age_nor_life(
    redis_server: RedisServer, here: CacheReplica, ahead: float
) -> None:
    far = Clock(time.time)
    far.ahead = ahead
    async with CacheReplica(redis_server.url, wall=far) as there:
        await here.redis.set(key(1), answer(at=time.time() - 5), ttl=60)
        kept = await there.redis.fetch(key(1))
    assert kept is not None
    assert 4.5 <= far() - kept.bought.at < 20  # clocks are compared as well as a network allows
    assert 40 < kept.expires - far() < 61


async def test_a_late_command_of_a_frozen_redis_stores_no_expired_answer(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    redis_server.freeze()
    bought = answer()
    assert not await cache.set(key(1), bought, ttl=1.5)
    await asyncio.sleep(max(0.0, bought.at + 1.6 - time.time()))
    redis_server.thaw()
    async with redis_server.client() as client:

        async def has_run() -> bool:
            return "cmdstat_set" in await client.info("commandstats")

        await until(has_run)
        assert await client.exists(NAME) == 0


# -- damage -------------------------------------------------------------------------------------


def record(name: str = key(1), expires: float = DAY, **fields: Any) -> bytes:
    """A record of ours, with its seal."""
    return SEAL.sealed(
        encode(CachedAnswer(name, time.time() + expires, replace(answer(), **fields)))
    )


RECORD = record()
DAMAGED = {
    "flipped": RECORD[:-1] + bytes([RECORD[-1] ^ 1]),
    "cut": RECORD[:-1],
    "text": b"hello",
    "of another key": record(key(2)),
    "without a seal": RECORD[SEAL_BYTES:],
    "with a seal of others": Seal(b"another pepper").sealed(RECORD[SEAL_BYTES:]),
    "with a seal of another record": RECORD[:SEAL_BYTES] + record(cost=1)[SEAL_BYTES:],
    "seal alone": RECORD[:SEAL_BYTES],
    "sealed text": SEAL.sealed(b"hello"),
    "large": b"x" * LARGE_BYTES,
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_or_foreign_value_is_deleted_and_logged_once(
    redis_server: RedisServer, here: CacheReplica, name: str
) -> None:
    async with redis_server.client() as client:
        with capture_logs() as lines:
            for _ in range(2):
                await client.set(NAME, DAMAGED[name])
                assert await found_in(here.redis, key(1)) is None
                assert await client.dbsize() == 0
    assert [line["event"] for line in lines] == ["damaged or foreign answer deleted"]
    assert here.lookups == ["miss", "miss"]


async def test_a_value_of_another_type_is_replaced(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    async with redis_server.client() as client:
        await client.hset(NAME, "a", "b")
        bought = answer()
        assert await found_in(cache, key(1)) is None
        await cache.set(key(1), bought)
        assert same(await found_in(cache, key(1)), bought)


async def test_an_expired_record_is_not_found(redis_server: RedisServer, cache: RedisCache) -> None:
    async with redis_server.client() as client:
        await client.set(NAME, record(expires=-1))
    assert await found_in(cache, key(1)) is None


# -- room ---------------------------------------------------------------------------------------


async def test_a_full_redis_refuses_answers_and_still_serves_others(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path, maxmemory="6mb") as server,
        CacheReplica(server.url) as replica,
    ):
        bought = answer(random.randbytes(50_000))
        await replica.redis.set(key(0), bought)
        with capture_logs() as lines:
            kept = [await replica.redis.set(key(n), answer(bytes(50_000))) for n in range(1, 300)]
        assert not kept[-1]
        logged = [(line["event"], line["cause"]) for line in lines]
        assert logged == [("cache refuses", "OutOfMemoryError")]
        assert same(await found_in(replica.redis, key(0)), bought)


# -- clients that disconnect --------------------------------------------------------------------


async def test_cancelled_commands_mix_no_answers_and_leak_no_connections(
    redis_server: RedisServer, cache: RedisCache
) -> None:
    bought = {key(number): answer(random.randbytes(20_000)) for number in range(50)}
    for pair in bought.items():
        await cache.set(*pair)

    async def use(name: str) -> None:
        if random.random() < 0.2:
            await cache.set(name, bought[name])
        assert same(await found_in(cache, name), bought[name])

    with capture_logs() as lines:
        for _ in range(20):
            tasks = [asyncio.create_task(use(name)) for name in bought]
            for task in tasks:
                await asyncio.sleep(random.random() / 1_000)
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await asyncio.gather(*map(use, bought))
    assert lines == []
    async with redis_server.client() as client:

        async def few() -> bool:
            info = await client.info("clients")
            return int(info["connected_clients"]) <= CONNECTIONS + 1

        await until(few)
