"""The Redis store passes the suite that every store must pass."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from gateway.rules.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from tests.stores.conformance import (
    AccountConformance,
    ArchiveConformance,
    AuditConformance,
    ClaimConformance,
    DirectoryConformance,
    MakeStore,
    ProcessConformance,
    UsageConformance,
)
from tests.support.redis import running_redis


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[MakeStore]:
    async with running_redis(tmp_path / "redis") as server:
        yield partial(RedisStore, parse_store_url(server.url))


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


class TestUsage(UsageConformance):
    """record and usage."""


class TestProcesses(ProcessConformance):
    """Several processes on one server."""


class TestArchive(ArchiveConformance):
    """export and restore."""
