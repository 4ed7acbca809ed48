"""Fixtures for tests of caches: a Redis server, and replicas that share it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.redis import RedisServer, running_redis
from tests.support.redis_cache import CacheReplica


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
async def here(server: RedisServer) -> AsyncIterator[CacheReplica]:
    async with CacheReplica(server.url) as replica:
        yield replica


@pytest.fixture
async def there(server: RedisServer) -> AsyncIterator[CacheReplica]:
    async with CacheReplica(server.url) as replica:
        yield replica
