"""Gateways that share a Redis as their cache: a picture that one bought is a hit on the other.

tests/cache has everything else about the two tiers.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.cache.redis import PREFIX
from tests.support.redis import RedisServer, free_port, running_redis
from tests.support.replicas import Gateways, running_gateways
from tests.support.rig import Rig, running_rig
from tests.support.steps import calls, drawing, metric, status

HIT = "gateway; hit"
STORED = "gateway; fwd=miss; stored"
ONLY_CACHED = {"Cache-Control": "only-if-cached"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """The Redis of the cache alone; the gateways' store is another one."""
    async with running_redis(tmp_path / "cache") as running:
        yield running


@pytest.fixture
async def gateways(tmp_path: Path, server: RedisServer) -> AsyncIterator[Gateways]:
    async with running_gateways(tmp_path, 2, drawing(), "", CACHE_URL=server.url) as running:
        yield running


async def lookups(rig: Rig, tier: str) -> dict[str, float]:
    results = ("hit", "miss", "error")
    name = "gateway_cache_lookups_total"
    return {each: await metric(rig, name, tier=tier, result=each) for each in results}


async def test_a_picture_that_one_gateway_bought_is_a_hit_on_the_other(gateways: Gateways) -> None:
    one, other = gateways.rigs
    key, n = await gateways.key(), 3
    bought = await one.generate(key, n=n)
    assert status(bought) == STORED
    await asyncio.sleep(1.1)
    for _ in range(2):
        hit = await other.generate(key, n=n)
        assert (status(hit), hit.body) == (HIT, bought.body)
        assert int(hit.headers["Age"]) >= 1
        assert hit.headers["x-gateway-cost-usd"] == "0"
        assert hit.headers["x-gateway-saved-usd"] == bought.headers["x-gateway-cost-usd"]
    assert calls(one) == 1
    assert await lookups(other, "redis") == {"hit": 1, "miss": 0, "error": 0}
    assert await lookups(other, "memory") == {"hit": 1, "miss": 1, "error": 0}
    assert await metric(other, "gateway_cache_entries", tier="memory") == 1
    await one.gateway.flush()
    usage = await other.usage()
    assert (usage.images_bought, usage.images_cached) == (n, 2 * n)


async def test_no_cache_key_holds_a_prompt(gateways: Gateways, server: RedisServer) -> None:
    one, _other = gateways.rigs
    await one.generate(await gateways.key(), "canary")
    async with server.client() as client:
        (name,) = await client.keys()
    assert isinstance(name, bytes)
    assert re.fullmatch(PREFIX + "[0-9a-f]{12}:[0-9a-f]{64}", name.decode())


async def test_a_team_without_cache_asks_redis_nothing(
    gateways: Gateways, server: RedisServer
) -> None:
    key = await gateways.key(cache=False)
    async with server.client() as client:
        before = await cache_commands(client)
        assert status(await gateways.rigs[0].generate(key)) == "gateway; fwd=bypass"
        assert await cache_commands(client) == before


async def cache_commands(client: Redis) -> dict[str, int]:
    """How often answers were read or written, or the start tried whether that is allowed."""
    stats = await client.info("commandstats")
    names = ("cmdstat_getrange", "cmdstat_get", "cmdstat_set")
    return {name: stats[name]["calls"] for name in names if name in stats}


async def test_a_frozen_redis_delays_little_and_fails_nothing(
    gateways: Gateways, server: RedisServer
) -> None:
    one, other = gateways.rigs
    key = await gateways.key()
    await one.generate(key)
    asked = await lookups(one, "redis")
    server.freeze()
    for _ in range(50):
        assert status(await one.generate(key)) == HIT
    assert await lookups(one, "redis") == asked
    began = time.monotonic()
    got = await asyncio.gather(*(other.generate(key, f"p{n}") for n in range(50)))
    assert [status(each) for each in got] == [STORED] * 50
    assert time.monotonic() - began < 8
    assert sum((await lookups(other, "redis")).values()) >= 50
    server.thaw()


async def test_a_start_without_redis(tmp_path: Path) -> None:
    with capture_logs() as lines:
        url = f"redis://127.0.0.1:{free_port()}/0"
        async with running_rig(tmp_path, CACHE_URL=url) as rig:
            key = await rig.key()
            assert status(await rig.generate(key)) == STORED
            assert status(await rig.generate(key)) == HIT
    levels = [line["log_level"] for line in lines if line["event"] == "the cache does not answer"]
    assert levels == ["warning"]
