"""The SQLite store passes the suite that every store must pass."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.reporting.request_lines import TeamErrors
from gateway.stores.sqlite import SqliteStore
from tests.conformance import (
    AccountConformance,
    ArchiveConformance,
    AuditConformance,
    ClaimConformance,
    DirectoryConformance,
    HistoryConformance,
    ProcessConformance,
    UsageConformance,
    WallConformance,
)
from tests.conformance.history import KIND, add
from tests.conformance.store import NOON, MakeStoreByWall


@pytest.fixture
def make_empty_store(tmp_path: Path) -> MakeStoreByWall:
    return partial(SqliteStore, tmp_path / "other" / "gateway.db")


class TestAccounts(AccountConformance):
    """load, swap, due, and the clock."""


class TestWall(WallConformance):
    """The clock it goes by."""


class TestDirectory(DirectoryConformance):
    """Teams, keys and check values."""


class TestAudit(AuditConformance):
    """Changes with their log."""


class TestClaims(ClaimConformance):
    """What is done once only."""


class TestHistory(HistoryConformance):
    """Recent requests, errors and latency."""


async def test_errors_and_writers_are_forgotten(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        await add(store, 1, errors=[TeamErrors("red", KIND)])
        await store.history.forget(NOON + 90 * DAY_SECONDS)
        assert await store.history.errors(NOON, NOON + 1) == [KIND]
        await store.history.forget(NOON + 90 * DAY_SECONDS + HOUR_SECONDS)
        assert await store.history.errors(NOON, NOON + 1) == []
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        assert connection.execute("SELECT count(*) FROM activity_writers").fetchone() == (0,)


class TestUsage(UsageConformance):
    """record and usage."""


class TestProcesses(ProcessConformance):
    """Several processes on one file."""


class TestArchive(ArchiveConformance):
    """export and restore."""
