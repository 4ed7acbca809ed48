"""Finding the primary: servers that hang, are gone or disagree, and a primary that has moved."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.quota.store import Change
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore, names
from tests.conformance.store import comes_back, entry, images, put, spent
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_kinds import (
    PASSWORD,
    SERVICE,
    Cluster,
    command,
    running_cluster,
    running_replicas,
    running_sentinel,
)
from tests.support.steps import until

SOON = 2.5
"""Seconds within which a call must have ended, on a busy machine."""


def store_at(url: str) -> RedisStore:
    return RedisStore(parse_store_url(url))


# -- sentinels ----------------------------------------------------------------------------------


async def test_sentinels_that_are_gone_or_hang_delay_no_start(tmp_path: Path) -> None:
    async with running_sentinel(tmp_path, sentinels=3) as servers:
        servers.sentinels[0].freeze()  # the first in the URL is gone
        for _ in range(3):
            started = time.monotonic()
            async with store_at(servers.url) as store:
                assert await images(store, "a") == 0
            assert time.monotonic() - started < SOON


async def test_the_majority_of_sentinels_decides_and_without_one_the_latest(
    tmp_path: Path,
) -> None:
    async with running_sentinel(tmp_path, sentinels=3) as servers:
        isolated = servers.sentinels[0]
        async with running_redis(tmp_path / "other") as other:
            await isolated.watch(other)
            for _ in range(5):
                async with store_at(servers.url) as store:
                    await put(store, "a", spent(1))
                    await store.accounts.swap([Change("a", 1, spent(0))], [])
                    await put(store, "a", spent(1))
                async with servers.primary.client() as client, other.client() as second:
                    assert await client.hget(names.ACCOUNTS, "a")
                    assert await client.delete(names.ACCOUNTS) == 1
                    assert await second.dbsize() == 0


async def test_a_service_that_no_sentinel_knows_is_said(tmp_path: Path) -> None:
    async with running_sentinel(tmp_path) as servers:
        url = servers.url.replace(f"/{SERVICE}/", "/nobody/")
        with pytest.raises(StoreUnavailable) as failed:
            async with store_at(url):
                pass
        assert "no sentinel names a primary of 'nobody'" in str(failed.value.__cause__)
        with pytest.raises(UnusableStore, match="sentinels do not accept sentinel_user"):
            async with store_at(servers.url.replace(PASSWORD, "wrong")):
                pass


@pytest.mark.parametrize("how", ["demoted", "lacking replicas"])
async def test_a_primary_that_refuses_is_left_for_the_one_that_sentinels_name(
    how: str, tmp_path: Path
) -> None:
    async with (
        running_sentinel(tmp_path) as servers,
        running_replicas(tmp_path, servers.primary, 1) as (other,),
        store_at(servers.url) as store,
        servers.primary.client() as client,
        other.client() as promoted,
    ):
        await put(store, "a", spent(1))
        await asyncio.gather(*(images(store, "a") for _ in range(8)))  # all connections are open
        assert await command(client, "WAIT", 1, 5000) == 1
        await promoted.replicaof("NO", "ONE")
        await servers.sentinels[0].watch(other)
        if how == "demoted":
            await client.replicaof("127.0.0.1", other.port)
        else:
            await client.config_set("min-replicas-to-write", 1)
        # Not one call fails: the former primary has run none of them.
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert await asyncio.gather(*(images(store, "a") for _ in range(8))) == [2] * 8


async def test_a_former_primary_that_still_takes_writes_is_left(tmp_path: Path) -> None:
    async with (
        running_sentinel(tmp_path) as servers,
        running_replicas(tmp_path, servers.primary, 1) as (other,),
        store_at(servers.url) as store,
        servers.primary.client() as client,
        other.client() as promoted,
    ):
        await put(store, "a", spent(1))
        assert await command(client, "WAIT", 1, 5000) == 1
        await promoted.replicaof("NO", "ONE")
        await servers.sentinels[0].watch(other)

        async def has_moved() -> bool:
            await put(store, "a", spent(2))
            return await promoted.hget(names.ACCOUNTS, "a") != await client.hget(
                names.ACCOUNTS, "a"
            ) and bool((await promoted.info("commandstats")).get("cmdstat_evalsha"))

        await until(has_moved, every=0.05)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("planned", "wait_replicas"), [(True, 2), (False, 1)])
async def test_a_failover_with_a_sentinel_that_is_gone_loses_no_acknowledged_write(
    planned: bool, wait_replicas: int, tmp_path: Path
) -> None:
    async with (
        running_sentinel(tmp_path, replicas=2, sentinels=3) as servers,
        RedisStore(parse_store_url(servers.url), wait_replicas=wait_replicas) as store,
    ):
        await servers.sentinels[0].kill()
        bought = 0

        async def buy() -> None:
            nonlocal bought
            with suppress(StoreUnavailable):
                ((account, version),) = (await store.accounts.load(["a"])).accounts
                new = spent(account.day.images + 1)
                bought += await store.accounts.swap([Change("a", version, new)], [])

        async def moved() -> bool:
            await buy()
            async with servers.sentinels[1].client() as client:
                state: Any = await client.sentinel_master(SERVICE)
                return bool(state["port"] != servers.primary.port)

        for _ in range(50):
            await buy()
        if planned:
            async with servers.sentinels[1].client() as client:
                await command(client, "SENTINEL FAILOVER", SERVICE)
        else:
            await servers.primary.kill()
        await until(moved, 30)
        await comes_back(store, 30)
        before = bought
        async with asyncio.timeout(60):
            while bought < before + 50:
                await buy()
        assert await images(store, "a") >= bought


# -- cluster ------------------------------------------------------------------------------------


async def others(cluster: Cluster) -> list[RedisServer]:
    owner = await cluster.owner(names.META)
    return [node for node in cluster.nodes if node is not owner]


async def test_a_cluster_with_a_node_that_hangs_is_opened_and_used(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        for node in cluster.nodes:
            async with node.client() as client:
                await client.config_set("cluster-require-full-coverage", "no")
        hung = (await others(cluster))[0]
        # By one node that the URL names, which then hangs, the others are known.
        async with store_at(f"redis+cluster://127.0.0.1:{hung.port}") as running:
            hung.freeze()
            for number in range(8):
                async with store_at(cluster.url) as store:
                    assert await images(store, "a") == number
                    await store.accounts.swap([Change("a", number, spent(number + 1))], [])
            async with (await cluster.owner(names.META)).client() as client:
                await command(client, "CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
            await comes_back(running)
            assert await images(running, "a") == 8
            hung.thaw()


async def test_a_cluster_whose_slot_moves_refuses_no_call_after_the_move(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, store_at(cluster.url) as store:
        await put(store, "a", spent(1))
        await asyncio.gather(*(images(store, "a") for _ in range(8)))
        await cluster.move(names.META, (await others(cluster))[0])
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert await asyncio.gather(*(images(store, "a") for _ in range(8))) == [2] * 8
