"""Answers in a cluster of three real nodes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.cache.redis import RedisCache
from gateway.cache.seal import Seal
from gateway.config.store_url import parse_store_url
from tests.support.answers import answer, key
from tests.support.money import until
from tests.support.redis import RedisServer, running_redis

SLOTS = 16_384


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[RedisServer]]:
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                running_redis(
                    tmp_path / str(number), cluster_enabled="yes", cluster_node_timeout="1000"
                )
            )
            for number in range(3)
        ]
        await form(servers)
        yield servers


async def form(servers: list[RedisServer]) -> None:
    """Make one cluster of these."""
    for number, server in enumerate(servers):
        first, end = (SLOTS * each // len(servers) for each in (number, number + 1))
        await command(server, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        await command(server, "CLUSTER", "MEET", "127.0.0.1", servers[0].port)

    async def is_formed() -> bool:
        states = [await command(server, "CLUSTER", "INFO") for server in servers]
        return all(
            b"cluster_state:ok" in state and b"cluster_known_nodes:3" in state for state in states
        )

    await until(is_formed, 30)


async def command(server: RedisServer, *words: Any) -> Any:
    async with server.client() as client:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]


async def test_answers_spread_over_the_nodes(nodes: list[RedisServer]) -> None:
    place = parse_store_url(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    cache = RedisCache(place, Seal(b"pepper"), 2**25, time)
    bought = {key(number): answer() for number in range(100)}
    with capture_logs() as lines:
        await cache.open()
        assert all([await cache.set(*pair) for pair in bought.items()])
        found = [await cache.get(name) for name in bought]
        assert [got.body for got in found] == [each.body for each in bought.values()]
        assert await cache.get(key("nothing")) is None
        sizes = [await command(node, "DBSIZE") for node in nodes]
        assert sum(sizes) == 100
        assert min(sizes) > 10
        assert await cache.delete(key(0)) == 1
        assert await cache.clear()
        assert [await command(node, "DBSIZE") for node in nodes] == [0, 0, 0]
        await cache.close()
    assert lines == []


async def test_a_cluster_that_lacks_a_node_is_unavailable(nodes: list[RedisServer]) -> None:
    place = parse_store_url(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    cache = RedisCache(place, Seal(b"pepper"), 2**25, time)
    await cache.open()
    await nodes[2].kill()

    async def is_down() -> bool:
        return b"cluster_state:fail" in await command(nodes[0], "CLUSTER", "INFO")

    await until(is_down, 30)
    began = monotonic()
    with capture_logs() as lines:
        assert [await cache.get(key(number)) for number in range(100)] == [None] * 100
    assert monotonic() - began < 20  # the client itself tries for a while, each time it is asked
    assert [line["event"] for line in lines] == ["cache away"]
    await cache.close()
