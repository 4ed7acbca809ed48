"""Making a database file ready at the start, or saying in one line why it cannot be.

Two processes may do this to the same file at once. Switching to the write-ahead log answers "busy"
without waiting where both try it, so the whole is tried again.
"""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from gateway.core.errors import StoreUnavailable
from gateway.stores.faults import UnusableStore
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sqlite.connection import Database, connect

OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

_RETRY_SECONDS = 0.01
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CAUSES = {
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_READONLY: "it cannot be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened for reading and writing",
    sqlite3.SQLITE_FULL: "the disk is full",
}


def make_ready(database: Database) -> None:
    """Create the file if there is none, and its tables, or bring them up to date; directory 0700,
    files 0600.

    Raises UnusableStore, or StoreUnavailable where others hold its lock for too long.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise UnusableStore(
            f"SQLite 3.35 or newer is needed, and Python has {sqlite3.sqlite_version}."
        )
    path = database.path
    try:
        _make_file(path)
        _prepare_patiently(path, database.busy_seconds)
        database.opened()
    except UnusableStore as failure:
        raise UnusableStore(f"The database {path} cannot be used: {failure}.") from failure
    except OSError as failure:
        raise UnusableStore(
            f"The database {path} cannot be used: {failure.strerror or failure}."
        ) from failure
    except sqlite3.Error as failure:
        if _code(failure) in _BUSY:
            raise StoreUnavailable from failure
        cause = _CAUSES.get(_code(failure), str(failure))
        raise UnusableStore(f"The database {path} cannot be used: {cause}.") from failure


def _make_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Exclusive, because a file that exists must not be opened here: closing it would drop the
        # locks of all connections that this process has. SQLite's other files take its mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return


def _prepare_patiently(path: Path, busy_seconds: float) -> None:
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            with closing(connect(path, busy_seconds)) as connection:
                return _prepare(connection)
        except sqlite3.OperationalError as failure:
            if _code(failure) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    schema.is_blank(connection)  # before anything changes a file that is not ours
    connection.execute("COMMIT")
    ((mode,),) = connection.execute("PRAGMA journal_mode = WAL")
    if mode != "wal":
        raise UnusableStore("its file system allows no write-ahead log; use a local disk")
    # Also where nothing is to be created: it tells that the file can be written to.
    connection.execute("BEGIN IMMEDIATE")
    if schema.is_blank(connection):
        schema.create(connection)
    elif schema.upgrade(connection):
        usage_sums.sum_up_all(connection)
    connection.execute("COMMIT")
    if connection.execute("PRAGMA integrity_check(accounts)").fetchone() != ("ok",):
        raise UnusableStore("its accounts are damaged; restore a backup")


def _code(failure: sqlite3.Error) -> int:
    """SQLite's primary error code; 0 where the error is not SQLite's own."""
    return getattr(failure, "sqlite_errorcode", 0) & 0xFF
