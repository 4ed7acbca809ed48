"""One database file for each test, and stores on it."""

from functools import partial
from pathlib import Path

import pytest

from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import MakeStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def make_store(path: Path) -> MakeStore:
    return partial(SqliteStore, path)
