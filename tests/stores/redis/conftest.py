"""One Redis server for each test, and stores on it."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.config.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from tests.conformance.store import MakeStore
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_kinds import running_cluster, running_sentinel, running_tls


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    async with server.client() as client:
        yield client


@pytest.fixture(params=[running_cluster, running_tls, running_sentinel])
async def kind_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a cluster, of a server behind TLS, or of one behind a sentinel."""
    async with request.param(tmp_path / "kind") as place:
        yield place.url


@pytest.fixture
def make_store(server: RedisServer) -> MakeStore:
    return partial(RedisStore, parse_store_url(server.url))
