"""The SQLite store: how a database file is prepared, its parts, and the threads that they run in.

One thread writes, one reads accounts and the directory, one makes reports, so that a long report
delays no purchase. With the write-ahead log readers see everything committed and never wait for a
writer, not even for one in another process.

Two processes may prepare the same file at the same time. Switching to the write-ahead log answers
"busy" without waiting where both try it, so preparing is retried as a whole.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from gateway.core.errors import StoreUnavailable
from gateway.stores.port import Observe, Store, UnusableStore
from gateway.stores.sqlite import directory, schema, usage_sums
from gateway.stores.sqlite.accounts import SqliteAccounts
from gateway.stores.sqlite.archive import SqliteArchive
from gateway.stores.sqlite.claims import SqliteClaims
from gateway.stores.sqlite.clock import StoreClock
from gateway.stores.sqlite.connection import Database, cause_of, connect, is_busy
from gateway.stores.sqlite.history import SqliteHistory
from gateway.stores.sqlite.pictures import SqlitePictures
from gateway.stores.sqlite.purchases import SqlitePurchases
from gateway.stores.sqlite.threads import Threads
from gateway.stores.sqlite.usage import SqliteUsage

OLDEST_SQLITE = (3, 35, 0)
"""The first version with RETURNING."""

_RETRY_SECONDS = 0.01


class SqliteStore(Store):
    """The store in the file `path`.

    `wall` and `monotonic` are the clocks. `busy_seconds` bounds the wait for another process'
    lock.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        busy_seconds: float = 2.0,
        observe: Observe | None = None,
    ) -> None:
        clock = StoreClock(wall, monotonic)
        self._database = Database(path.absolute(), busy_seconds)
        self._threads = threads = Threads(self._database, observe)
        self.accounts = SqliteAccounts(threads, clock)
        self.directory = directory.SqliteDirectory(threads)
        self.usage = SqliteUsage(threads)
        self.audit = directory.SqliteAudit(threads)
        self.claims = SqliteClaims(threads, clock)
        self.history = SqliteHistory(threads)
        self.purchases = SqlitePurchases(threads)
        self.pictures = SqlitePictures(threads)
        self.archive = SqliteArchive(self._database, self.open)

    async def open(self) -> None:
        await asyncio.to_thread(make_ready, self._database)

    async def close(self) -> None:
        await self._threads.close()

    async def check_value(self, name: str, value: bytes) -> bool:
        work = partial(directory.check_value, name=name, value=value)
        return await self._threads.run("writer", "check_value", work)

    async def confirm_reset(self) -> bool:
        return False  # a file that was lost is an outage: no other file ever takes its place


# -- preparing a file -----------------------------------------------------------------------------


def make_ready(database: Database) -> None:
    """Create the file where there is none, and bring its tables up to date.

    A new directory gets the mode 0700, files 0600. Raises UnusableStore, or StoreUnavailable
    where other processes hold the lock for too long.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise UnusableStore(
            f"SQLite 3.35 or newer is needed, and Python has {sqlite3.sqlite_version}."
        )
    path = database.path
    try:
        _create_file(path)
        _prepare_with_retries(path, database.busy_seconds)
        database.opened()
    except (UnusableStore, OSError, sqlite3.Error) as failure:
        cause = cause_of(failure)
        if is_busy(failure):
            raise StoreUnavailable(cause) from failure
        raise UnusableStore(f"The database {path} cannot be used: {cause}.") from failure


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Exclusive, because an existing file must not be opened here: closing it would drop the locks
    # of all connections of this process. SQLite's other files take its mode.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_with_retries(path: Path, busy_seconds: float) -> None:
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            with closing(connect(path, busy_seconds)) as connection:
                return _prepare(connection)
        except sqlite3.OperationalError as failure:
            if not is_busy(failure) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)  # in a thread: the event loop goes on


def _prepare(connection: Connection) -> None:
    connection.execute("BEGIN")
    schema.current(connection)  # raises before anything changes a file that is not ours
    connection.execute("COMMIT")
    ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise UnusableStore("its file system allows no write-ahead log; use a local disk")
    # A write transaction also where no table is missing: it shows that the file is writable.
    connection.execute("BEGIN IMMEDIATE")
    if schema.migrate(connection):
        usage_sums.sum_up_all(connection)
    connection.execute("COMMIT")
    if connection.execute("PRAGMA integrity_check(accounts)").fetchone() != ("ok",):
        raise UnusableStore("its accounts are damaged; restore a backup")
