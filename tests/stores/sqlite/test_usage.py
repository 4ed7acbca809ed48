"""SQLite's usage history: entries become sums, and are forgotten."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.stores.archive_format import EntryRecord
from gateway.stores.sqlite import SqliteStore, usage_sums
from tests.conformance.store import NOON, entry
from tests.conformance.test_usage import DAY, everything, tidied
from tests.support.states import gathered

SUMMED = NOON + usage_sums.BEHIND_SECONDS + 60
"""The time at which entries of noon are summed up."""


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}")
        return int(rows)


async def test_entries_are_summed_up_in_steps_and_forgotten_after_a_week(
    store: SqliteStore, path: Path
) -> None:
    more = usage_sums.ENTRIES_AT_ONCE + 100
    recent = entry("recent", at=NOON + 3 * DAY)
    await store.accounts.record([entry(str(n), at=NOON + n // 3) for n in range(more)])
    await store.accounts.record([recent])
    before = await everything(store)
    assert not await store.usage.tidy(NOON + 60, None)
    assert await store.usage.tidy(SUMMED + more, None)
    with closing(sqlite3.connect(path)) as connection:
        ((summed,),) = connection.execute("SELECT sum(requests) FROM usage_totals")
    assert usage_sums.ENTRIES_AT_ONCE <= summed < more
    await tidied(store, SUMMED + more, None)
    assert await everything(store) == before
    tables = ("usage_hours", "usage_days", "usage_totals", "entries")
    assert [count(path, table) for table in tables] == [1, 1, 1, more + 1]
    await tidied(store, NOON + 8 * DAY, None)
    assert await everything(store) == before
    assert count(path, "entries") == 1
    exported = [
        r.entry for r in await gathered(store.archive.export()) if isinstance(r, EntryRecord)
    ]
    assert exported[-1] == recent
    assert [(one.requests, one.cost) for one in exported[:1]] == [(more, 5 * more)]


async def test_forgotten_usage_leaves_no_row(store: SqliteStore, path: Path) -> None:
    await store.accounts.record([entry(str(hour), at=NOON + hour * 3600) for hour in range(30)])
    await tidied(store, NOON + 60 * DAY, NOON + 40 * DAY)
    for table in ("usage_hours", "usage_days", "usage_totals", "entries"):
        assert count(path, table) == 0
