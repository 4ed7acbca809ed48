"""The suite for ArchiveStore.

Its fixture `make_empty_store` opens stores on other data than `make_store`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from gateway.core.key_format import pepper_check
from gateway.core.model import Entry, UsageRow
from gateway.core.periods import DAY_SECONDS
from gateway.quota.account import team_account
from gateway.quota.store import Change
from gateway.stores.archive_format import (
    AccountRecord,
    ArchiveRecord,
    AuditRecord,
    CheckRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    NotEmpty,
    NotRestored,
)
from gateway.stores.port import Store
from gateway.stores.sums import FIELDS
from gateway.tenants.store import DirectoryWrite
from tests.conformance.store import NOON, MakeStore, entry, spend, spent
from tests.support.directory import put_teams
from tests.support.states import (
    BLUE,
    BUSY,
    GONE,
    LOG,
    PEPPER,
    PURGED,
    RED,
    REVOKED,
    archived,
    by_name,
    gathered,
    history,
    logged,
    read,
    state,
)

GROUPINGS: tuple[tuple[str, ...], ...] = (
    *((), ("day",), ("team", "key"), ("team", "key", "day")),
    ("hour", *FIELDS),
)
"""The finest, and one for each kind of sums that stores keep beside it."""


async def restore(make_store: MakeStore, records: Iterable[ArchiveRecord]) -> None:
    """Import these records into an empty store."""
    store = make_store()
    try:
        await store.archive.restore(records)
    finally:
        await store.close()


async def exported(store: Store) -> list[ArchiveRecord]:
    """Return all records of a store but the entries, ordered by name."""
    records = await gathered(store.archive.export())
    return by_name(record for record in records if not isinstance(record, EntryRecord))


def entries_in(records: Iterable[ArchiveRecord]) -> dict[str, Entry]:
    """Return the entries by id; no id may come twice."""
    entries = [record.entry for record in records if isinstance(record, EntryRecord)]
    assert len(entries) == len({entry.id for entry in entries})
    return {entry.id: entry for entry in entries}


async def usages(store: Store) -> list[list[UsageRow]]:
    """Return the usage in several groupings, whole and of two days."""
    day = NOON - NOON % 86_400
    return [
        await store.usage.report(by, *bounds)
        for by in GROUPINGS
        for bounds in ((None, None), (day - 10 * 86_400, day - 8 * 86_400))
    ]


def broken(records: Sequence[ArchiveRecord], end: Callable[[], object]) -> Iterator[ArchiveRecord]:
    """Yield records, and fail after the last one."""
    yield from records
    end()


def damaged() -> None:
    raise NotRestored("The archive is damaged.")


async def test_all_of_it_can_be_used_and_continues(make_store: MakeStore) -> None:
    async with make_store() as store:
        assert await store.check_value("pepper", b"another")  # which no key was made with
    await restore(make_store, state())
    red = team_account("red")
    async with make_store() as store, make_store() as other:
        changes = await store.directory.changes(0)
        assert sorted(changes.teams, key=lambda team: team.name) == [GONE, RED, BLUE]
        assert {key.id: key for key in changes.keys}["k3"] == REVOKED
        assert await store.directory.last_uses() == {"k1": NOON - 60.5, "k3": NOON - 1 / 7}
        assert await store.check_value("pepper", pepper_check(PEPPER))
        assert not await store.check_value("pepper", b"another")
        assert await store.accounts.due() == [red]

        for each in (store, other):
            assert (await each.accounts.load([red])).accounts == [(BUSY, 17)]
        assert not await store.accounts.swap([Change(red, 16, spent(1))], [])
        assert await store.accounts.swap([Change(red, 17, spent(1))], [entry("e")])
        assert not await other.accounts.swap([Change(red, 17, spent(2))], [])

        later = replace(PURGED, team="red")  # at the same moment as the last one
        assert await store.directory.commit(changes.generation, DirectoryWrite(audit=[later]))
        assert await store.audit.entries(None, None) == [later, *LOG[::-1]]
        await store.audit.forget(PURGED.at)
        log = [r for r in await exported(store) if isinstance(r, AuditRecord)]
        assert log == list(logged([PURGED, PURGED, later]))


async def test_the_clock_continues_after_an_import(make_store: MakeStore) -> None:
    ahead = time.time() + 7_200.123
    await restore(make_store, [CheckRecord("pepper", b"p"), ClockRecord(ahead)])
    async with make_store() as store:
        now = (await store.accounts.load(["a"])).now
        assert ahead <= now < ahead + 60
        await store.accounts.swap([Change("a", 0, spent(1))], [])
        (mark,) = (r for r in await exported(store) if isinstance(r, ClockRecord))
        assert now <= mark.at < ahead + 60


async def test_usage_is_the_same_after_a_move(
    make_store: MakeStore, make_empty_store: MakeStore
) -> None:
    now = time.time()
    # Entries that a store stops keeping by id while the test runs would differ in their ids.
    recent = [e for e in history(500, now) if abs(now - e.at - 3 * DAY_SECONDS) > 7_200]
    entries = [replace(e, id=f"{n}") for n, e in enumerate([*history(1_100), *recent])]
    await restore(make_store, state(entries))
    async with make_store() as store:
        exported = read(archived(await gathered(store.archive.export())))
        await restore(make_empty_store, exported)
        async with make_empty_store() as other:
            assert await usages(store) == await usages(other)
            (total,) = await other.usage.report([], None, None)
            assert total.cost == sum(each.cost for each in entries)
            (day,) = await other.usage.report([], NOON - 36 * 3600, NOON - 12 * 3600)
            among = [e for e in entries if NOON - 36 * 3600 <= e.at < NOON - 12 * 3600]
            assert day.requests == sum(each.requests for each in among)
            assert entries_in(await gathered(other.archive.export())) == entries_in(
                await gathered(store.archive.export())
            )


async def test_a_late_outcome_replaces_an_unknown_one(
    make_store: MakeStore, make_empty_store: MakeStore
) -> None:
    unknown: Entry = entry("e", at=time.time() - 7_200, outcome="unknown", images_unknown=1)
    async with make_store() as store:
        await store.accounts.record([unknown, entry("f", at=unknown.at)])
        await restore(make_empty_store, await gathered(store.archive.export()))
    async with make_empty_store() as store:
        await store.accounts.record([replace(unknown, outcome="bought", images_unknown=0, cost=7)])
        (row,) = await store.usage.report([], None, None)
        assert (row.requests, row.images_bought, row.images_unknown, row.cost) == (2, 2, 0, 12)


async def test_accounts_and_usage_agree_while_others_write(make_store: MakeStore) -> None:
    chance = random.Random(1)

    async def write(name: str) -> None:
        for turn in range(25):
            await spend(store, "a", f"{name}-{turn}", chance, at=time.time())

    async def check() -> None:
        while not all(task.done() for task in tasks):
            records = await gathered(store.archive.export())
            accounts = [r.state.day.images for r in records if isinstance(r, AccountRecord)]
            written = [r.entry.images_bought for r in records if isinstance(r, EntryRecord)]
            assert sum(accounts) == sum(written)

    async with make_store() as store:
        tasks = [asyncio.create_task(write(name)) for name in ("one", "two")]
        await check()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    "kinds", [("team",), ("team", "key"), ("account",), ("change",), ("entry",)]
)
async def test_only_an_empty_store_can_be_imported_into(
    make_store: MakeStore, kinds: tuple[str, ...]
) -> None:
    records = state(history(1))
    await restore(make_store, (record for record in records if record.kind() in kinds))
    async with make_store() as store:
        before = await gathered(store.archive.export())
        with pytest.raises(NotEmpty):
            await restore(make_store, records)
        assert await gathered(store.archive.export()) == before


async def test_a_failed_or_cancelled_import_leaves_nothing_and_can_be_repeated(
    make_store: MakeStore,
) -> None:
    records = state(history(1_500))
    with pytest.raises(NotRestored, match="damaged"):
        await restore(make_store, broken(records, damaged))
    task = asyncio.create_task(restore(make_store, broken(records, lambda: task.cancel())))
    with pytest.raises(asyncio.CancelledError):
        await task
    async with make_store() as store:
        assert [type(r) for r in await gathered(store.archive.export())] == [ClockRecord]
        assert await store.usage.report([], None, None) == []
    await restore(make_store, records)
    async with make_store() as store:
        async with aclosing(store.archive.export()) as batches:  # an export may be abandoned
            first = await anext(batches)
        assert by_name(r for r in first if isinstance(r, KeyRecord)) == [
            r for r in records if isinstance(r, KeyRecord)
        ]
        await put_teams(store.directory, [BLUE])
