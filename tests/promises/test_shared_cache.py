"""Gateways that share a Redis as their cache: a picture that one bought is a hit on the other.

The upstream's counts say what was bought.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.cache.redis import PREFIX
from tests.support.redis import RedisServer, free_port, running_redis
from tests.support.replicas import Gateways, running_gateways
from tests.support.rig import Rig, running_rig
from tests.support.steps import calls, drawing, metric, samples, status, until

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


async def commands(server: RedisServer) -> set[str]:
    """The commands for values that the server has run."""
    async with server.client() as client:
        statistics = await client.info("commandstats")
    return {"cmdstat_get", "cmdstat_set"} & set(statistics)


async def lookups(rig: Rig, tier: str) -> dict[str, float]:
    results = ("hit", "miss", "error")
    name = "gateway_cache_lookups_total"
    return {each: await metric(rig, name, tier=tier, result=each) for each in results}


# -- shared pictures ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
async def test_a_picture_that_one_gateway_bought_is_a_hit_on_the_other(
    gateways: Gateways, n: int
) -> None:
    one, other = gateways.rigs
    key = await gateways.key()
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


async def test_a_fresh_answer_replaces_the_one_that_the_others_get(
    tmp_path: Path, server: RedisServer
) -> None:
    gateways_of = running_gateways(tmp_path, 2, drawing(picture="drawn"), "", CACHE_URL=server.url)
    async with gateways_of as gateways:
        one, other = gateways.rigs
        key = await gateways.key()
        await one.generate(key)
        fresh = await one.generate(key, headers={"Cache-Control": "no-cache"})
        assert (await other.generate(key)).body == fresh.body


async def test_a_team_never_gets_anothers_answer(gateways: Gateways) -> None:
    one, other = gateways.rigs
    red = await gateways.key("red")
    blue = await gateways.key("blue")
    assert status(await one.generate(red)) == STORED
    assert (await other.generate(blue, headers=ONLY_CACHED)).error[2] == "not_cached"
    assert status(await other.generate(blue)) == STORED
    assert calls(one) == 2


async def test_no_cache_key_holds_a_prompt(gateways: Gateways, server: RedisServer) -> None:
    one, _other = gateways.rigs
    await one.generate(await gateways.key(), "canary")
    async with server.client() as client:
        (name,) = await client.keys()
    assert isinstance(name, bytes)
    assert re.fullmatch(PREFIX + "[0-9a-f]{12}:[0-9a-f]{64}", name.decode())


# -- for how long -------------------------------------------------------------------------------


async def test_a_copy_of_an_answer_lives_no_longer_than_the_answer(
    tmp_path: Path, server: RedisServer
) -> None:
    environ = {"CACHE_URL": server.url, "CACHE_TTL_SECONDS": "3"}
    async with running_gateways(tmp_path, 2, drawing(), "", **environ) as gateways:
        one, other = gateways.rigs
        key = await gateways.key()
        await one.generate(key)
        await asyncio.sleep(1.5)
        assert status(await other.generate(key)) == HIT
        await asyncio.sleep(1.6)
        assert (await other.generate(key, headers=ONLY_CACHED)).error[2] == "not_cached"


async def test_no_gateway_serves_a_dead_picture(tmp_path: Path, server: RedisServer) -> None:
    urls = drawing(answer="url", url_ttl=2)
    async with running_gateways(tmp_path, 2, urls, "", CACHE_URL=server.url) as gateways:
        one, other = gateways.rigs
        key = await gateways.key()
        began, hits = time.monotonic(), 0
        while time.monotonic() - began < 3.5:
            for rig in (one, other):
                got = await rig.generate(key)
                async with rig.session.get(got.json["data"][0]["url"]) as picture:
                    assert picture.status == 200
                hits += status(got) == HIT
            await asyncio.sleep(0.02)
        assert hits > 20
        assert await metric(one, "gateway_cache_lookups_total", tier="redis", result="hit") + (
            await metric(other, "gateway_cache_lookups_total", tier="redis", result="hit")
        )


async def test_a_damaged_value_is_bought_again(gateways: Gateways, server: RedisServer) -> None:
    one, other = gateways.rigs
    key = await gateways.key()
    await one.generate(key)
    async with server.client() as client:
        (name,) = await client.keys()
        await client.setrange(name, 100, b"\xff\xff\xff")
    assert status(await other.generate(key)) == STORED
    assert calls(one) == 2


# -- off ----------------------------------------------------------------------------------------


async def test_a_cache_that_is_off_asks_redis_nothing(tmp_path: Path, server: RedisServer) -> None:
    off = "[cache]\nenabled = false"
    async with running_gateways(tmp_path, 2, drawing(), off, CACHE_URL=server.url) as gateways:
        one, other = gateways.rigs
        key = await gateways.key()
        for rig in (one, other):
            assert status(await rig.generate(key)) == "gateway; fwd=bypass"
        async with server.client() as client:
            assert "cmdstat_time" not in await client.info("commandstats")
        shown = await samples(one)
        labels = frozenset({("tier", "redis"), ("result", "error")})
        assert shown["gateway_cache_lookups_total", labels] == 0
    assert await commands(server) == set()


async def test_a_team_without_cache_asks_redis_nothing(
    gateways: Gateways, server: RedisServer
) -> None:
    one, _other = gateways.rigs
    key = await gateways.key(cache=False)
    assert status(await one.generate(key)) == "gateway; fwd=bypass"
    assert await commands(server) == set()


# -- away ---------------------------------------------------------------------------------------


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


async def test_a_redis_that_dies_and_comes_back(gateways: Gateways, server: RedisServer) -> None:
    one, other = gateways.rigs
    key = await gateways.key()
    await one.generate(key)
    await server.kill()
    assert status(await one.generate(key)) == HIT
    assert status(await other.generate(key)) == STORED
    await server.start()

    async def is_shared() -> bool:
        bought = await one.generate(key, None)
        body = {"prompt": "again"}
        assert bought.status == 200
        await one.post(key, json=body, headers={"Cache-Control": "no-cache"})
        return (await other.post(key, json=body, headers=ONLY_CACHED)).status == 200

    await until(is_shared, 20)


async def test_a_start_without_redis(tmp_path: Path) -> None:
    with capture_logs() as lines:
        url = f"redis://127.0.0.1:{free_port()}/0"
        async with running_rig(tmp_path, CACHE_URL=url) as rig:
            key = await rig.key()
            assert status(await rig.generate(key)) == STORED
            assert status(await rig.generate(key)) == HIT
    levels = [line["log_level"] for line in lines if line["event"] == "cache away"]
    assert levels == ["warning"]


async def test_a_start_with_a_wrong_password(tmp_path: Path, server: RedisServer) -> None:
    async with server.client() as client:
        await client.config_set("requirepass", "right")
    with capture_logs() as lines:
        url = server.url.replace("//", "//:canary@")
        async with running_rig(tmp_path, CACHE_URL=url) as rig:
            assert status(await rig.generate(await rig.key())) == STORED
    levels = [line["log_level"] for line in lines if line["event"].startswith("cache refuses")]
    assert levels == ["error"]
    assert "canary" not in json.dumps(lines, default=str)


async def test_a_redis_that_evicts_everything_only_costs_money(tmp_path: Path) -> None:
    settings = {"maxmemory": "2mb", "maxmemory_policy": "allkeys-lfu"}
    async with (
        running_redis(tmp_path / "small", **settings) as server,
        running_gateways(
            tmp_path, 2, drawing(picture="drawn"), "", CACHE_URL=server.url
        ) as gateways,
    ):
        one, other = gateways.rigs
        key = await gateways.key()
        for number in range(30):
            bought = await one.generate(key, f"p{number}")
            got = await other.generate(key, f"p{number}")
            assert got.status == 200
            assert status(got) != HIT or got.body == bought.body
