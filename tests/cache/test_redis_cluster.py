"""Answers in a cluster of three real nodes."""

import gc
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from tests.support.answers import answer, key
from tests.support.redis import RedisServer
from tests.support.redis_cache import CacheReplica, found_in
from tests.support.redis_kinds import command, running_cluster
from tests.support.steps import until


async def ask(node: RedisServer, words: str) -> Any:
    async with node.client() as client:
        return await command(client, words)


async def test_answers_spread_over_the_nodes_and_a_missing_node_is_an_outage(
    tmp_path: Path,
) -> None:
    bought = {key(number): answer() for number in range(100)}
    async with running_cluster(tmp_path) as cluster, CacheReplica(cluster.url) as replica:

        async def is_down() -> bool:
            state = await ask(cluster.nodes[0], "CLUSTER INFO")
            return bool(state["cluster_state"] == "fail")

        cache = replica.redis
        with capture_logs() as lines:
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
            await cluster.nodes[2].kill()
            await until(is_down, 30)
            assert [await found_in(cache, name) for name in bought] == [None] * 100
        assert [line["event"] for line in lines] == ["the cache does not answer"]
    gc.collect()  # a connection that is still open fails this test, not a later one
