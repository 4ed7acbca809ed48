"""Old usage, request history and audit entries are deleted in the background."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.core.periods import DAY_SECONDS
from gateway.reporting.request_lines import LINE_DAYS, HistoryBatch, LineFilter
from gateway.reporting.retention import Retention
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.store import DirectoryWrite
from tests.conformance.store import MIDNIGHT, NOON, entry
from tests.conformance.test_history import WRITER, line
from tests.conformance.test_pictures import buyer
from tests.support.states import CREATED


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        yield store


def retention(store: SqliteStore, keep_days: int = 400, now: float = MIDNIGHT) -> Retention:
    defaults = Settings()
    settings = replace(defaults, usage=replace(defaults.usage, keep_days=keep_days))
    return Retention(
        store.usage,
        store.history,
        store.pictures,
        store.audit,
        settings=lambda: settings,
        wall=lambda: now,
    )


@pytest.mark.parametrize(("keep_days", "left"), [(0, 3), (400, 2), (50, 1)])
async def test_old_usage_is_deleted(store: SqliteStore, keep_days: int, left: int) -> None:
    ages = (10, 60, 500)
    await store.accounts.record([entry(str(age), at=MIDNIGHT - age * DAY_SECONDS) for age in ages])
    await retention(store, keep_days).delete_usage()
    (row,) = await store.usage.report([], None, None)
    assert row.requests == left
    assert not await store.usage.tidy(MIDNIGHT, None)


@pytest.mark.parametrize(("keep_days", "left"), [(0, 3), (400, 2), (50, 1)])
async def test_buyers_of_pictures_are_deleted_with_usage(
    store: SqliteStore, keep_days: int, left: int
) -> None:
    ages = (10, 60, 500)
    records = [buyer(str(age), at=MIDNIGHT - age * DAY_SECONDS) for age in ages]
    await store.pictures.write(records, None)
    await retention(store, keep_days).delete_pictures()
    assert len(await store.pictures.find(records[0].sha256, 9)) == left


async def test_old_request_lines_are_deleted(store: SqliteStore) -> None:
    await store.history.write(HistoryBatch(writer=WRITER, number=1, at=NOON, lines=[line(1)]))
    for days, left in ((LINE_DAYS - 1, 1), (LINE_DAYS + 1, 0)):
        await retention(store, now=NOON + days * DAY_SECONDS).delete_history()
        assert len(await store.history.lines(LineFilter(), 10)) == left


async def test_old_audit_entries_are_deleted_at_start(store: SqliteStore) -> None:
    await store.directory.commit(0, DirectoryWrite(audit=[CREATED]))
    days = Settings().admin.audit_days
    for later, left in ((days - 1, 1), (days + 1, 0)):
        async with retention(store, now=CREATED.at + later * DAY_SECONDS):
            assert len(await store.audit.entries(None, None)) == left
