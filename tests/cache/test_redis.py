"""Answers in a real Redis: what comes back, for how long, and what never does."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.cache.codec import CachedAnswer, encode
from gateway.cache.redis import LARGE_BYTES, PREFIX, RedisCache
from gateway.cache.redis_connection import CONNECTIONS
from gateway.cache.seal import SEAL_BYTES, Seal
from gateway.config.store_url import parse_store_url
from gateway.core.model import Bought
from gateway.telemetry.observer import NO_OBSERVER, Observer
from tests.support.answers import answer, key
from tests.support.clocks import Clock
from tests.support.money import until
from tests.support.redis import RedisServer, running_redis

DAY = 86_400.0
SEAL = Seal(b"a pepper of tests, long enough")
NAME = f"{PREFIX}{SEAL.mark}:{key(1)}"
"""Where Redis has the answer of `key(1)`."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as running:
        yield running


class Lookups(Observer):
    """The results of look-ups."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def cache_lookup(self, tier: str, result: str) -> None:
        assert tier == "redis"
        self.results.append(result)


@asynccontextmanager
async def opened(
    server: RedisServer,
    observer: Observer = NO_OBSERVER,
    wall: Callable[[], float] = time.time,
    max_entry_bytes: int = 2**25,
    seal: Seal = SEAL,
) -> AsyncIterator[RedisCache]:
    """A cache in this server."""
    cache = RedisCache(parse_store_url(server.url), seal, max_entry_bytes, wall, observer)
    await cache.open()
    try:
        yield cache
    finally:
        await cache.close()


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisCache]:
    async with opened(server) as running:
        yield running


def same(one: Bought | None, other: Bought) -> bool:
    """Whether they are one answer; moments pass over another clock and back."""
    return (
        one is not None
        and (one.body, one.images, one.cost, one.kept)
        == (other.body, other.images, other.cost, other.kept)
        and abs(one.at - other.at) < 1
    )


# -- the interface ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 1_000, LARGE_BYTES, 20_000_000])
async def test_every_replica_gets_a_stored_answer(server: RedisServer, size: int) -> None:
    bought = answer(random.randbytes(size))
    async with opened(server) as one, opened(server) as other:
        assert await one.set(key(1), bought)
        assert same(await other.get(key(1)), bought)
        assert await other.get(key(2)) is None


async def test_set_replaces(cache: RedisCache) -> None:
    former, latter = answer(), answer()
    await cache.set(key(1), former)
    await cache.set(key(1), latter)
    assert same(await cache.get(key(1)), latter)


async def test_many_at_once(cache: RedisCache) -> None:
    bought = {key(number): answer() for number in range(10 * CONNECTIONS)}
    assert all(await asyncio.gather(*(cache.set(*pair) for pair in bought.items())))
    found = await asyncio.gather(*map(cache.get, bought))
    assert all(map(same, found, bought.values()))


async def test_a_deleted_answer_is_gone(cache: RedisCache) -> None:
    await cache.set(key(1), answer())
    assert await cache.delete(key(1)) == 1
    assert await cache.get(key(1)) is None
    assert await cache.delete(key(1)) == 0


async def test_clear_deletes_only_its_own_answers(server: RedisServer, cache: RedisCache) -> None:
    for number in range(20):
        await cache.set(key(number), answer())
    async with server.client() as client:
        await client.set("somebody else's", b"x")
        assert await cache.clear()
        assert await client.keys() == [b"somebody else's"]


async def test_a_key_is_a_prefix_and_a_fingerprint(server: RedisServer, cache: RedisCache) -> None:
    await cache.set(key(1), answer())
    async with server.client() as client:
        assert await client.keys() == [NAME.encode()]


async def test_an_answer_that_is_too_long_is_not_stored(server: RedisServer) -> None:
    async with opened(server, max_entry_bytes=100) as cache:
        assert await cache.set(key(1), answer(b"x" * 100))
        assert not await cache.set(key(2), answer(b"x" * 101))
        assert await cache.get(key(2)) is None


async def test_look_ups_are_reported(server: RedisServer) -> None:
    lookups = Lookups()
    async with opened(server, lookups) as cache:
        await cache.get(key(1))
        await cache.set(key(1), answer())
        await cache.get(key(1))
        await server.kill()
        await cache.get(key(1))
    assert lookups.results == ["miss", "hit", "error"]


# -- time ---------------------------------------------------------------------------------------


async def test_an_answer_lives_for_its_time(server: RedisServer, cache: RedisCache) -> None:
    bought = answer()
    await cache.set(key(1), bought, ttl=0.75)
    async with server.client() as client:
        assert 0 < await client.pttl(NAME) <= 750

        async def is_gone() -> bool:
            return await cache.get(key(1)) is None and not await client.exists(NAME)

        await until(is_gone)
    assert time.time() - bought.at >= 0.5


async def test_an_answer_without_a_ttl_stays(server: RedisServer, cache: RedisCache) -> None:
    await cache.set(key(1), answer(), ttl=None)
    assert await cache.get(key(1)) is not None
    async with server.client() as client:
        assert await client.pttl(NAME) == -1


@pytest.mark.parametrize("ahead", [-DAY, -30.0, 30.0, DAY])
async def test_clocks_that_differ_change_neither_age_nor_life(
    server: RedisServer, ahead: float
) -> None:
    far = Clock(time.time)
    far.ahead = ahead
    async with opened(server) as near_cache, opened(server, wall=far) as far_cache:
        await near_cache.set(key(1), answer(at=time.time() - 5), ttl=60)
        kept = await far_cache.fetch(key(1))
        assert kept is not None
        assert 4.5 <= far() - kept.bought.at < 20  # clocks are compared as well as a network allows
        assert 40 < kept.expires - far() < 61


async def test_a_late_command_of_a_frozen_redis_stores_no_expired_answer(
    server: RedisServer, cache: RedisCache
) -> None:
    server.freeze()
    bought = answer()
    assert not await cache.set(key(1), bought, ttl=1.5)
    await asyncio.sleep(max(0.0, bought.at + 1.6 - time.time()))
    server.thaw()
    async with server.client() as client:

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
    "of no time": record(at=-math.inf),
    "of all the money": record(cost=2**63 - 1),
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_a_damaged_or_foreign_value_is_deleted_and_not_found(
    server: RedisServer, name: str
) -> None:
    lookups = Lookups()
    async with server.client() as client, opened(server, lookups) as cache:
        await client.set(NAME, DAMAGED[name])
        with capture_logs() as lines:
            assert await cache.get(key(1)) is None
        assert [line["event"] for line in lines] == ["damaged or foreign answer deleted"]
        assert await client.dbsize() == 0
        assert lookups.results == ["miss"]


async def test_many_damaged_values_are_logged_once(server: RedisServer, cache: RedisCache) -> None:
    async with server.client() as client:
        with capture_logs() as lines:
            for _ in range(3):
                await client.set(NAME, b"planted")
                assert await cache.get(key(1)) is None
        assert len(lines) == 1


async def test_gateways_of_different_stores_share_nothing(server: RedisServer) -> None:
    """Although their teams have the same names. Clearing one store leaves the other alone."""
    ours, theirs = answer(), answer()
    async with opened(server) as one, opened(server, seal=Seal(b"another pepper")) as other:
        await one.set(key(1), ours)
        assert await other.get(key(1)) is None
        await other.set(key(1), theirs)
        assert same(await one.get(key(1)), ours)
        assert await other.clear()
        assert same(await one.get(key(1)), ours)


async def test_a_value_of_another_type_is_replaced(server: RedisServer, cache: RedisCache) -> None:
    async with server.client() as client:
        await client.hset(NAME, "a", "b")
        bought = answer()
        assert await cache.get(key(1)) is None
        await cache.set(key(1), bought)
        assert same(await cache.get(key(1)), bought)


async def test_a_record_past_its_time_is_not_found(server: RedisServer, cache: RedisCache) -> None:
    async with server.client() as client:
        await client.set(NAME, record(expires=-1))
    assert await cache.get(key(1)) is None


# -- room ---------------------------------------------------------------------------------------


async def test_a_redis_that_evicts_loses_answers_and_mixes_none(tmp_path: Path) -> None:
    settings = {"maxmemory": "6mb", "maxmemory_policy": "allkeys-lfu"}
    async with running_redis(tmp_path, **settings) as server, opened(server) as cache:
        bought = [answer(random.randbytes(50_000)) for _ in range(300)]
        for number, each in enumerate(bought):
            assert await cache.set(key(number), each)
        found = [await cache.get(key(number)) for number in range(300)]
        assert 0 < sum(got is not None for got in found) < 300
        assert all(got is None or got.body == bought[n].body for n, got in enumerate(found))


async def test_a_full_redis_refuses_answers_and_still_gives_them(tmp_path: Path) -> None:
    async with running_redis(tmp_path, maxmemory="6mb") as server, opened(server) as cache:
        bought = answer(random.randbytes(50_000))
        await cache.set(key(0), bought)
        with capture_logs() as lines:
            kept = [await cache.set(key(n), answer(bytes(50_000))) for n in range(1, 300)]
        assert not kept[-1]
        logged = [(line["event"], line["cause"]) for line in lines]
        assert logged == [("cache refuses", "OutOfMemoryError")]
        assert same(await cache.get(key(0)), bought)


# -- clients that leave -------------------------------------------------------------------------


async def test_cancelled_commands_mix_no_answers_and_leak_no_connections(
    server: RedisServer, cache: RedisCache
) -> None:
    bought = {key(number): answer(random.randbytes(20_000)) for number in range(50)}
    for pair in bought.items():
        await cache.set(*pair)

    async def use(name: str) -> None:
        if random.random() < 0.2:
            await cache.set(name, bought[name])
        got = await cache.get(name)
        assert got is None or got.body == bought[name].body

    with capture_logs() as lines:
        for _ in range(20):
            tasks = [asyncio.create_task(use(name)) for name in bought]
            for task in tasks:
                await asyncio.sleep(random.random() / 1_000)
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        for name, each in bought.items():
            assert same(await cache.get(name), each)
    assert lines == []
    async with server.client() as client:

        async def few() -> bool:
            info = await client.info("clients")
            return int(info["connected_clients"]) <= CONNECTIONS + 1

        await until(few)
