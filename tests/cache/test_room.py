"""A Redis that is both store and cache: the cache gives way, and purchases go on."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.cache.redis import RedisCache
from gateway.cache.room import FULL, READING_SECONDS, RELAXED
from gateway.config.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from tests.support.answers import answer, key
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_cache import CacheReplica, found_in
from tests.support.redis_kinds import command, running_cluster
from tests.support.replicas import running_gateways
from tests.support.rig import running_rig
from tests.support.steps import drawing, tally, until

LIMIT = 8 * 2**20
BODY = b"x" * 50_000
GIVES_WAY = "the cache gives way to the store: the Redis of both is nearly full"
NO_LONGER = "the cache no longer gives way to the store"


def elsewhere(server: RedisServer) -> str:
    """Another URL of the same server, with another database."""
    return f"redis://localhost:{server.port}/1"


@asynccontextmanager
async def sharing(store_url: str, cache_url: str) -> AsyncIterator[tuple[RedisStore, RedisCache]]:
    """A store and a cache that knows it."""
    async with (
        RedisStore(parse_store_url(store_url)) as store,
        CacheReplica(cache_url, store_server=store.server_id) as replica,
    ):
        await replica.redis.room.start()
        yield store, replica.redis


async def used(server: RedisServer) -> int:
    """The bytes that a server uses."""
    async with server.client() as client:
        return int((await client.info("memory"))["used_memory"])


def about(lines: Sequence[MutableMapping[str, Any]]) -> list[str]:
    return [line["event"] for line in lines if "give" in line["event"] or "cache" in line["event"]]


async def grow(client: Redis, share: float) -> None:
    """Fill a share of the memory, as a growing ledger does, in small steps."""
    for number in range(int(share * LIMIT / 65_536)):
        await client.set(f"ledger:{number}", b"x" * 60_000)  # the server takes 65536 for it


async def shrink(client: Redis) -> None:
    """Delete what `grow` wrote."""
    await client.delete(*(f"ledger:{number}" for number in range(200)))


async def test_the_oldest_answers_are_deleted_before_the_store_lacks_memory(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis", maxmemory=str(LIMIT)) as server,
        sharing(server.url, elsewhere(server)) as (store, cache),
        server.client() as own,
    ):
        with capture_logs() as lines:
            for number in range(300):
                assert await cache.set(key(number), answer(BODY), ttl=3600 + number)
                await store.accounts.probe(thorough=False)
                assert await used(server) < LIMIT * (FULL + 0.05)
            oldest = [await found_in(cache, key(number)) for number in range(50)]
            assert oldest == [None] * 50
            assert await found_in(cache, key(299))
            assert about(lines) == [GIVES_WAY]
            await own.set("another program's", BODY)
            await grow(own, 0.15)  # while no answer is stored
            await until(lambda: is_below(server, LIMIT * FULL))
            await shrink(own)
            await cache.clear()
            await until(lambda: NO_LONGER in about(lines))
            assert await used(server) < LIMIT * RELAXED
            assert await own.exists("another program's")
        assert about(lines) == [GIVES_WAY, NO_LONGER]


async def is_below(server: RedisServer, limit: float) -> bool:
    return await used(server) < limit


async def test_a_store_that_needs_all_memory_gets_it(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis", maxmemory=str(LIMIT)) as server,
        sharing(server.url, elsewhere(server)) as (_, cache),
        server.client() as own,
    ):
        assert await cache.set(key(1), answer(BODY))
        await grow(own, 0.75)
        await asyncio.sleep(READING_SECONDS)
        with capture_logs() as lines:
            for number in range(20):
                assert not await cache.set(key(number), answer(BODY))
            assert [cache.takes_answers] == [False]
            assert await found_in(cache, key(1)) is None
            await until(lambda: GIVES_WAY in about(lines))
        await shrink(own)
        await until(lambda: cache.set(key(3), answer(BODY)))
        assert cache.takes_answers
        # One large answer does not displace all others.
        assert not await cache.set(key(4), answer(b"x" * (LIMIT // 6)))
        assert await found_in(cache, key(3))


async def test_a_server_of_its_own_is_used_to_the_full(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "store") as store,
        running_redis(tmp_path / "cache", maxmemory=str(LIMIT)) as server,
        sharing(store.url, server.url) as (_, cache),
    ):
        with capture_logs() as lines:
            stored = [await cache.set(key(number), answer(BODY)) for number in range(200)]
        assert stored[0]
        assert not stored[-1]
        assert await used(server) > LIMIT * 0.95
        assert [line["event"] for line in lines] == ["cache refuses"]


async def test_purchases_go_on_where_store_and_cache_share_a_full_redis(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "redis", maxmemory=str(LIMIT * 3 // 4)) as server:
        places = {"STORE_URL": server.url, "CACHE_URL": elsewhere(server), "KEYS_PEPPER": "p" * 32}
        with capture_logs() as lines:
            async with running_rig(tmp_path, sandbox=drawing(picture="drawn"), **places) as rig:
                key = await rig.key()
                for _ in range(8):
                    bought = (rig.generate(key, None) for _ in range(25))
                    assert tally(await asyncio.gather(*bought)) == {200: 25}
                await rig.assert_books(200, (await rig.account()).day.cost)
        assert about(lines) == [GIVES_WAY]


async def test_waiting_gateways_get_an_answer_that_has_no_room(tmp_path: Path) -> None:
    async with running_gateways(tmp_path, 2, drawing(latency=0.5)) as gateways:
        async with gateways.redis.client() as client:
            # So much that what is left is enough for any number of connections and accounts.
            await client.set("ledger", b"x" * 20_000_000)
            await client.config_set("maxmemory", round(await used(gateways.redis) / 0.85))
        key = await gateways.key()
        got = await gateways.crowd(key, 6)
        assert tally(got) == {200: 6}
        assert gateways.sandbox.counts.asked == 1


async def test_a_user_who_may_not_read_the_memory_has_a_cache(tmp_path: Path) -> None:
    async with running_redis(tmp_path / "redis") as server, server.client() as client:
        await command(
            client, "ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-info"
        )
        url = f"redis://limited:secret@127.0.0.1:{server.port}/0"
        with capture_logs() as lines:
            async with sharing(server.url, url) as (_, cache):
                assert await cache.set(key(1), answer(BODY))
                assert await found_in(cache, key(1))
        assert about(lines) == []


@pytest.mark.exhaustive
async def test_a_cluster_makes_room_on_the_node_of_the_store(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        for node in cluster.nodes:
            async with node.client() as client:
                await client.config_set("maxmemory", LIMIT)
        async with sharing(cluster.url, cluster.url) as (store, cache):
            stored = [await cache.set(key(number), answer(BODY)) for number in range(600)]
            assert sum(stored) > 550
            await store.accounts.probe(thorough=False)
            assert min([await used(node) for node in cluster.nodes]) < LIMIT * 0.8
            assert await found_in(cache, key(599))
            sizes = []
            for node in cluster.nodes:
                async with node.client() as client:
                    sizes.append(int(await command(client, "DBSIZE")))
            assert sum(sizes) < 600
