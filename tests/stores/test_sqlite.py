"""The SQLite store passes the suite that every store must pass."""

from functools import partial
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteStore
from tests.stores.conformance import (
    AccountConformance,
    ArchiveConformance,
    AuditConformance,
    ClaimConformance,
    DirectoryConformance,
    ProcessConformance,
    UsageConformance,
    WallConformance,
)
from tests.stores.conformance.store import MakeStoreByWall


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStoreByWall:
    return partial(SqliteStore, tmp_path / "data" / "gateway.db")


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


class TestUsage(UsageConformance):
    """record and usage."""


class TestProcesses(ProcessConformance):
    """Several processes on one file."""


class TestArchive(ArchiveConformance):
    """export and restore."""
