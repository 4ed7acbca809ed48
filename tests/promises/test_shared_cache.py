"""Two gateways with one store and one Redis for the cache: what one bought the other has.

What is bought is counted by the upstream's own counts.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.cache.redis import PREFIX
from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.money import drawing, until
from tests.support.redis import RedisServer, free_port, running_redis
from tests.support.rig import Rig, settings_for
from tests.support.steps import calls, metric, samples, status

HIT = "gateway; hit"
STORED = "gateway; fwd=miss; stored"
ONLY_CACHED = {"Cache-Control": "only-if-cached"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as running:
        yield running


@asynccontextmanager
async def gateway(
    folder: Path, sandbox: Sandbox, url: str, toml: str = "", **environ: str
) -> AsyncIterator[Rig]:
    """A gateway whose store is in `folder` and whose cache's Redis is at `url`."""
    settings = settings_for(folder, sandbox, toml, CACHE_URL=url, **environ)
    running = Gateway(settings)
    await running.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Rig(running, sandbox, session)
    finally:
        await running.stop()


@asynccontextmanager
async def started(settings: SandboxSettings | None = None) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(settings or drawing())
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.stop()


@asynccontextmanager
async def two(
    folder: Path,
    server: RedisServer,
    toml: str = "",
    sandbox: SandboxSettings | None = None,
    **environ: str,
) -> AsyncIterator[tuple[Rig, Rig]]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(started(sandbox))
        one, other = [
            await stack.enter_async_context(gateway(folder, upstream, server.url, toml, **environ))
            for _ in range(2)
        ]
        yield one, other


async def key_of(one: Rig, other: Rig, team: str = "team", **policy: Any) -> str:
    """A new key that both gateways know."""
    text = await one.key(team, **policy)
    await other.gateway.directory.refresh()
    return text


async def commands(server: RedisServer) -> set[str]:
    """Which commands for values the server has run."""
    async with server.client() as client:
        statistics = await client.info("commandstats")
    return {"cmdstat_get", "cmdstat_set"} & set(statistics)


async def lookups(rig: Rig, tier: str) -> dict[str, float]:
    results = ("hit", "miss", "error")
    name = "gateway_cache_lookups_total"
    return {each: await metric(rig, name, tier=tier, result=each) for each in results}


# -- what one bought the other has --------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
async def test_what_one_gateway_bought_is_a_hit_on_the_other(
    tmp_path: Path, server: RedisServer, n: int
) -> None:
    async with two(tmp_path, server) as (one, other):
        key = await key_of(one, other)
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


async def test_a_fresh_answer_is_what_the_other_gets(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server, sandbox=drawing(picture="drawn")) as (one, other):
        key = await key_of(one, other)
        await one.generate(key)
        fresh = await one.generate(key, headers={"Cache-Control": "no-cache"})
        assert (await other.generate(key)).body == fresh.body


async def test_a_team_never_gets_anothers_answer(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server) as (one, other):
        red = await key_of(one, other, "red")
        blue = await key_of(one, other, "blue")
        assert status(await one.generate(red)) == STORED
        assert (await other.generate(blue, headers=ONLY_CACHED)).error[2] == "not_cached"
        assert status(await other.generate(blue)) == STORED
        assert calls(one) == 2


async def test_a_shared_scope_is_shared_over_gateways(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server, '[cache]\nscope = "shared"') as (one, other):
        red = await key_of(one, other, "red")
        blue = await key_of(one, other, "blue")
        assert status(await one.generate(red)) == STORED
        assert status(await other.generate(blue)) == HIT


async def test_no_prompt_stands_in_a_key(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server) as (one, other):
        await one.generate(await key_of(one, other), "canary")
        async with server.client() as client:
            (name,) = await client.keys()
    assert isinstance(name, bytes)
    assert re.fullmatch(PREFIX + "[0-9a-f]{12}:[0-9a-f]{64}", name.decode())


# -- for how long -------------------------------------------------------------------------------


async def test_an_answer_lives_no_longer_for_having_moved(
    tmp_path: Path, server: RedisServer
) -> None:
    async with two(tmp_path, server, CACHE_TTL_SECONDS="3") as (one, other):
        key = await key_of(one, other)
        await one.generate(key)
        await asyncio.sleep(1.5)
        assert status(await other.generate(key)) == HIT
        await asyncio.sleep(1.6)
        assert (await other.generate(key, headers=ONLY_CACHED)).error[2] == "not_cached"


async def test_no_gateway_gives_a_dead_picture(tmp_path: Path, server: RedisServer) -> None:
    sandbox = drawing(answer="url", url_ttl=2)
    async with two(tmp_path, server, sandbox=sandbox) as (one, other):
        key = await key_of(one, other)
        began, hits = time.monotonic(), 0
        while time.monotonic() - began < 5:
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


async def test_a_damaged_value_is_bought_anew(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server) as (one, other):
        key = await key_of(one, other)
        await one.generate(key)
        async with server.client() as client:
            (name,) = await client.keys()
            await client.setrange(name, 100, b"\xff\xff\xff")
        assert status(await other.generate(key)) == STORED
        assert calls(one) == 2


# -- off ----------------------------------------------------------------------------------------


async def test_a_cache_that_is_off_asks_redis_nothing(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server, "[cache]\nenabled = false") as (one, other):
        key = await key_of(one, other)
        for rig in (one, other):
            assert status(await rig.generate(key)) == "gateway; fwd=bypass"
        async with server.client() as client:
            assert "cmdstat_time" not in await client.info("commandstats")
        shown = await samples(one)
        labels = frozenset({("tier", "redis"), ("result", "error")})
        assert shown["gateway_cache_lookups_total", labels] == 0
    assert await commands(server) == set()


async def test_a_team_without_cache_asks_redis_nothing(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server) as (one, other):
        key = await key_of(one, other, cache=False)
        assert status(await one.generate(key)) == "gateway; fwd=bypass"
    assert await commands(server) == set()


# -- away ---------------------------------------------------------------------------------------


async def test_a_frozen_redis_delays_little_and_fails_nothing(
    tmp_path: Path, server: RedisServer
) -> None:
    async with two(tmp_path, server) as (one, other):
        key = await key_of(one, other)
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


async def test_a_redis_that_dies_and_comes_back(tmp_path: Path, server: RedisServer) -> None:
    async with two(tmp_path, server) as (one, other):
        key = await key_of(one, other)
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
    async with started() as sandbox:
        with capture_logs() as lines:
            url = f"redis://127.0.0.1:{free_port()}/0"
            async with gateway(tmp_path, sandbox, url) as rig:
                key = await rig.key()
                assert status(await rig.generate(key)) == STORED
                assert status(await rig.generate(key)) == HIT
        told = [line["log_level"] for line in lines if line["event"] == "cache away"]
        assert told == ["warning"]


async def test_a_start_with_a_wrong_password(tmp_path: Path, server: RedisServer) -> None:
    async with server.client() as client:
        await client.config_set("requirepass", "right")
    async with started() as sandbox:
        with capture_logs() as lines:
            url = server.url.replace("//", "//:canary@")
            async with gateway(tmp_path, sandbox, url) as rig:
                assert status(await rig.generate(await rig.key())) == STORED
        told = [line["log_level"] for line in lines if line["event"].startswith("cache refuses")]
        assert told == ["error"]
        assert "canary" not in json.dumps(lines, default=str)


async def test_a_redis_that_evicts_everything_only_costs_money(tmp_path: Path) -> None:
    settings = {"maxmemory": "2mb", "maxmemory_policy": "allkeys-lfu"}
    async with (
        running_redis(tmp_path / "small", **settings) as server,
        two(tmp_path, server, sandbox=drawing(picture="drawn")) as (one, other),
    ):
        key = await key_of(one, other)
        for number in range(30):
            bought = await one.generate(key, f"p{number}")
            got = await other.generate(key, f"p{number}")
            assert got.status == 200
            assert status(got) != HIT or got.body == bought.body


async def test_a_restart_keeps_the_memory_also_without_redis(
    tmp_path: Path, server: RedisServer
) -> None:
    toml = f'[cache]\nkeep_path = "{tmp_path / "cache"}"'
    async with started() as sandbox:
        async with gateway(tmp_path, sandbox, server.url, toml) as rig:
            key = await rig.key()
            bought = await rig.generate(key)
        await server.kill()
        async with gateway(tmp_path, sandbox, server.url, toml) as rig:
            hit = await rig.generate(key)
            assert (status(hit), hit.body) == (HIT, bought.body)
