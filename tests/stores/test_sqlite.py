"""The SQLite store passes the suite that every store must pass."""

from functools import partial
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteStore
from tests.stores.conformance import (
    AccountConformance,
    DirectoryConformance,
    MakeStore,
    ProcessConformance,
    UsageConformance,
)


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    return partial(SqliteStore, tmp_path / "data" / "gateway.db")


class TestAccounts(AccountConformance):
    """load, swap, due, and the clock."""


class TestDirectory(DirectoryConformance):
    """Teams, keys and check values."""


class TestUsage(UsageConformance):
    """record and usage."""


class TestProcesses(ProcessConformance):
    """Several processes on one file."""
