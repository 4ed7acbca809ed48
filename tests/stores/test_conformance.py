"""Both stores pass the suite that every store must pass."""

import pytest

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
from tests.support.stores import KINDS, Places


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest, places: Places) -> MakeStore:
    return places.new(request.param)


@pytest.fixture
def make_empty_store(request: pytest.FixtureRequest, places: Places) -> MakeStore:
    """Stores of the same kind as `make_store`, on other data."""
    return places.new(request.node.callspec.params["make_store"])


class TestAccounts(AccountConformance):
    """Budgets and the clock."""


class TestDirectory(DirectoryConformance):
    """Teams, keys and check values."""


class TestAudit(AuditConformance):
    """Changes with their log."""


class TestClaims(ClaimConformance):
    """Work that only one gateway may do."""


class TestHistory(HistoryConformance):
    """Recent requests, errors and latency."""


class TestUsage(UsageConformance):
    """Usage entries and reports."""


class TestProcesses(ProcessConformance):
    """Several processes on the same data."""


class TestArchive(ArchiveConformance):
    """Exports and imports."""
