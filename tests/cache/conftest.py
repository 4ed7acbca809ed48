"""Fixtures for tests of caches: replicas that share a Redis."""

from collections.abc import AsyncIterator

import pytest

from tests.support.redis import RedisServer
from tests.support.redis_cache import CacheReplica


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[CacheReplica]:
    async with CacheReplica(redis_server.url) as replica:
        yield replica


@pytest.fixture
async def there(redis_server: RedisServer) -> AsyncIterator[CacheReplica]:
    async with CacheReplica(redis_server.url) as replica:
        yield replica
