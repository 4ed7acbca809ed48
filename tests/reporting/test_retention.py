"""The usage history is tidied up in the background."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.periods import DAY_SECONDS
from gateway.reporting.retention import Upkeep
from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import MIDNIGHT, entry


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        yield store


@pytest.mark.parametrize(("keep_days", "left"), [(0, 3), (400, 2), (50, 1)])
async def test_what_is_too_old_is_forgotten(store: SqliteStore, keep_days: int, left: int) -> None:
    ages = (10, 60, 500)
    await store.accounts.record([entry(str(age), at=MIDNIGHT - age * DAY_SECONDS) for age in ages])
    upkeep = Upkeep(store.usage, keep_days=lambda: keep_days, wall=lambda: MIDNIGHT)
    await upkeep.tidy()
    (row,) = await store.usage.report([], None, None)
    assert row.requests == left
    assert not await store.usage.tidy(MIDNIGHT, None)
