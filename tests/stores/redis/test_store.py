"""The Redis store passes the suite that every store must pass."""

import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.config.store_url import parse_store_url
from gateway.core.periods import DAY_SECONDS
from gateway.reporting.request_lines import TeamErrors
from gateway.stores.port import Store
from gateway.stores.redis import RedisStore, names
from tests.conformance import (
    AccountConformance,
    ArchiveConformance,
    AuditConformance,
    ClaimConformance,
    DirectoryConformance,
    HistoryConformance,
    MakeStore,
    ProcessConformance,
    UsageConformance,
)
from tests.conformance.history import KIND, WRITER, add
from tests.support.redis import running_redis


@pytest.fixture
async def make_empty_store(tmp_path: Path) -> AsyncIterator[MakeStore]:
    async with running_redis(tmp_path / "other") as server:
        yield partial(RedisStore, parse_store_url(server.url))


class TestAccounts(AccountConformance):
    """load, swap, due, and the clock."""


class TestDirectory(DirectoryConformance):
    """Teams, keys and check values."""


class TestAudit(AuditConformance):
    """Changes with their log."""


class TestClaims(ClaimConformance):
    """What is done once only."""


class TestHistory(HistoryConformance):
    """Recent requests, errors and latency."""


async def test_errors_are_forgotten_by_the_day(store: Store, client: Redis) -> None:
    now = time.time()
    for number, at in enumerate((now, now - 30 * DAY_SECONDS), 1):
        await add(store, number, at=at, errors=[TeamErrors("red", KIND)])
        left = await client.ttl(names.errors(int(at // DAY_SECONDS)))
        assert 90 * DAY_SECONDS - 60 <= left <= 91 * DAY_SECONDS + 60


async def test_a_writer_is_known_for_a_day(store: Store, client: Redis) -> None:
    await add(store, 1)
    assert DAY_SECONDS - 60 <= await client.ttl(names.written(WRITER)) <= DAY_SECONDS


class TestUsage(UsageConformance):
    """record and usage."""


class TestProcesses(ProcessConformance):
    """Several processes on one server."""


class TestArchive(ArchiveConformance):
    """export and restore."""
