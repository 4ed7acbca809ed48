import asyncio
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import StoreUnavailable
from gateway.quota.store import Change
from gateway.stores.port import Store, UnusableStore
from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite.threads import GRACE_SECONDS
from tests.conformance.store import NOON, entry, held, images, put, refused, spent

BUSY_SECONDS = 0.2
PAGE = 4096


@pytest.fixture
def other(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def move(path: Path, target: Path) -> None:
    """Move a database with its log."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(target.with_name(target.name + suffix))


async def test_lost_writes_are_reported_once_each_time(
    path: Path, other: sqlite3.Connection
) -> None:
    """A backup is copied into the file, and versions are given out a second time."""
    failed: list[str] = []

    def observe(operation: str, seconds: float, answered: bool) -> None:
        failed.extend([] if answered else [operation])

    with closing(sqlite3.connect(":memory:")) as copy:
        async with SqliteStore(path, observe=observe) as store, SqliteStore(path) as second:
            await put(store, "a", spent(1))
            other.backup(copy)
            await put(store, "a", spent(2))
            copy.backup(other)
            with capture_logs() as lines:
                for _ in range(2):
                    assert await images(store, "a") == 1
            (line,) = lines
            assert (line["event"][:19], line["account"]) == ("the store went back", "a")
            await put(store, "a", spent(2))
            copy.backup(other)
            await put(second, "a", spent(30))  # another version 2
            assert not await store.accounts.swap([Change("a", 2, spent(3))], [])
            assert (await store.accounts.load(["a"])).accounts == [(spent(30), 2)]
            assert failed == ["went_back"] * 2


async def test_a_lock_held_for_long_is_an_outage_that_ends_by_itself(
    path: Path, other: sqlite3.Connection
) -> None:
    async with SqliteStore(path, busy_seconds=BUSY_SECONDS) as store:
        await put(store, "a", spent(1))
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        first, *rest = await asyncio.gather(
            store.accounts.swap([Change("a", 1, spent(2))], [entry("e")]),
            *(store.accounts.record([entry("behind")]) for _ in range(9)),
            return_exceptions=True,
        )
        assert BUSY_SECONDS * 0.9 < time.monotonic() - started < BUSY_SECONDS + GRACE_SECONDS + 2
        assert {type(end) for end in (first, *rest)} == {StoreUnavailable}
        assert isinstance(first, StoreUnavailable)
        assert "locked" in str(first.__cause__)
        assert await images(store, "a") == 1  # reading does not wait
        assert (await store.directory.changes(0)).teams == []
        other.execute("ROLLBACK")
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert await images(store, "a") == 2
        # Work that had begun when its caller failed may still be done.
        assert (await store.usage.report([], None, None))[0].requests in (1, 2)


async def test_a_lock_held_for_a_moment_is_waited_for(
    other: sqlite3.Connection, store: Store
) -> None:
    other.execute("BEGIN IMMEDIATE")
    swap = asyncio.create_task(store.accounts.swap([Change("a", 0, spent(1))], []))
    await asyncio.sleep(0.1)
    assert not swap.done()
    other.execute("ROLLBACK")
    assert await swap


async def test_a_file_locked_from_the_start_is_an_outage(path: Path) -> None:
    async with SqliteStore(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            async with SqliteStore(path, busy_seconds=BUSY_SECONDS):
                pytest.fail("it was opened")


async def test_a_file_that_was_deleted_or_replaced_is_an_outage_until_it_is_back(
    path: Path,
) -> None:
    away, backup = path.with_name("away.db"), path.with_name("backup.db")
    async with SqliteStore(backup) as store:
        await put(store, "a", spent(3))
    async with SqliteStore(path) as store:
        await put(store, "a", spent(5))
        for other in (None, os.devnull, backup):
            move(path, away)
            if other is not None:
                shutil.copy(other, path)
            for _ in range(2):
                await refused(store)
            with pytest.raises(StoreUnavailable):
                await store.usage.report([], None, None)
            created = other is not None  # by this test, never by the store
            assert (path.name in os.listdir(path.parent)) == created
            move(away, path)
            assert await images(store, "a") == 5
        assert await store.accounts.swap([Change("a", 1, spent(6))], [])
    async with SqliteStore(path) as store:
        assert await images(store, "a") == 6


def damaged(path: Path) -> Iterator[None]:
    """The file, with each of its pages overwritten in turn, in each of three ways."""
    whole, chance = path.read_bytes(), random.Random(3)
    for at in range(0, len(whole), PAGE):
        for damage in (bytes(PAGE), chance.randbytes(PAGE), bytes(PAGE // 2)):
            path.write_bytes(whole[:at] + damage + whole[at + len(damage) :])
            yield


async def test_a_damaged_page_is_never_a_fresh_budget(path: Path) -> None:
    account = held(**{f"hold-{number}": NOON + number for number in range(400)})
    async with SqliteStore(path) as store:
        await put(store, "a", account)
        await store.accounts.record([entry(str(number)) for number in range(100)])
    refused = 0
    for _ in damaged(path):
        try:
            async with SqliteStore(path) as store:
                assert (await store.accounts.load(["a"])).accounts == [(account, 1)]
        except (UnusableStore, StoreUnavailable):
            refused += 1
    assert refused > 10


async def test_an_account_of_damaged_bytes_is_an_outage(path: Path) -> None:
    async with SqliteStore(path) as store:
        await put(store, "a", spent(5))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE accounts SET state = x'0000', version = 9")
    async with SqliteStore(path) as store:
        with pytest.raises(StoreUnavailable):
            await store.accounts.load(["a"])
        assert (await store.accounts.load(["b"])).accounts[0][1] == 0
