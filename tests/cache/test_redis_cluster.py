"""Answers in a cluster of three real nodes."""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.answers import answer, key
from tests.support.redis import RedisServer
from tests.support.redis_cache import CacheReplica, found_in
from tests.support.redis_kinds import Cluster, command, running_cluster
from tests.support.steps import until


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_cluster(tmp_path) as running:
        yield running


async def ask(node: RedisServer, words: str) -> Any:
    async with node.client() as client:
        return await command(client, words)


async def test_answers_spread_over_the_nodes(cluster: Cluster) -> None:
    bought = {key(number): answer() for number in range(100)}
    with capture_logs() as lines:
        async with CacheReplica(cluster.url) as replica:
            cache = replica.redis
            assert all([await cache.set(*pair) for pair in bought.items()])
            found = [await found_in(cache, name) for name in bought]
            assert [got and got.body for got in found] == [each.body for each in bought.values()]
            assert await found_in(cache, key("nothing")) is None
            sizes = [await ask(node, "DBSIZE") for node in cluster.nodes]
            assert sum(sizes) == 100
            assert min(sizes) > 10
            assert await cache.delete(key(0)) == 1
            assert await cache.clear()
            assert [await ask(node, "DBSIZE") for node in cluster.nodes] == [0, 0, 0]
    assert lines == []


async def test_a_cluster_that_lacks_a_node_is_unavailable(cluster: Cluster) -> None:
    async def is_down() -> bool:
        state = await ask(cluster.nodes[0], "CLUSTER INFO")
        return bool(state["cluster_state"] == "fail")

    async with CacheReplica(cluster.url) as replica:
        await cluster.nodes[2].kill()
        await until(is_down, 30)
        began = monotonic()
        with capture_logs() as lines:
            assert [await found_in(replica.redis, key(n)) for n in range(100)] == [None] * 100
        assert monotonic() - began < 20  # the client itself retries for a while each time
        assert [line["event"] for line in lines] == ["the cache does not answer"]
    gc.collect()  # a connection that is still open fails this test, not a later one
