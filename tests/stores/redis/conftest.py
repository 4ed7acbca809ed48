"""Stores on an empty database of the worker's server. A file whose tests stop or change the server
overrides `url`, and gives each test a server of its own.
"""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.config.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from tests.conformance.store import MakeStore
from tests.support.redis import RedisServer, running_redis
from tests.support.stores import Places


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def url(places: Places) -> str:
    return places.redis_url()


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as client:
        yield client


@pytest.fixture
def make_store(url: str) -> MakeStore:
    return partial(RedisStore, parse_store_url(url))
