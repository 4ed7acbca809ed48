"""Connections to the database file, each with the settings that the promises rest on.

`synchronous=FULL`: a commit that was acknowledged outlives a power failure. Transactions are
written out by hand (`isolation_level=None`), so that each one is seen where it begins and ends.

A connection never creates the file, and a store only ever uses the file that it opened first.
Were that one deleted under a running gateway, SQLite would go on writing into what has no name
any more, and a new one would be a fresh budget for everybody. A backup put in its place would
be mixed with the old one's log. So both are an outage, until the file is back or the gateway
is started again.

The same goes for the log: of a `-wal` file without a name a killed process leaves nothing, and
whoever opens the database next makes a new one, unseen by those who hold the old. So once it is
gone every connection writes what it has into the database file, lets go, and none is opened again.
Other processes that hold the old one may take a moment longer: only a start finds out who is left.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock

from gateway.stores.faults import UnusableStore
from gateway.stores.sqlite import schema

_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Damage is to be found out before it is read as something else.
    "PRAGMA cell_size_check = ON",
    # A long report lets the log grow; the next checkpoint gives the disk its space back.
    "PRAGMA journal_size_limit = 67108864",
)


Identity = tuple[int, int]
"""A file's device and inode."""


def connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open an existing file, by its absolute path; locks are waited for up to `busy_seconds`.

    Raises sqlite3.Error.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None
    )
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


class Database:
    """The file of one store. Everything raises OSError, sqlite3.Error or UnusableStore.

    `on_lost` are called once, in any thread, when its log is found to be gone: whoever has a
    connection must close it.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self.busy_seconds = busy_seconds
        self.on_lost: list[Callable[[], None]] = []
        # As text: a path is made into text at each look, and three looks take 3 us instead of 9.
        self._file, self._wal, self._shm = (f"{path}{suffix}" for suffix in ("", "-wal", "-shm"))
        self._opened: Identity | None = None
        # Those of the log belong to the connections: with the last one SQLite deletes it.
        self._lock = RLock()
        self._connections = 0
        self._log: tuple[Identity | None, ...] = ()
        self._lost = False

    def opened(self) -> None:
        """From now on it is the file that is there now."""
        self._opened = _identity(self._file)

    def check(self) -> None:
        """Raise unless the file that was opened is still the one under its name, with its log."""
        if _identity(self._file) != self._opened:
            raise UnusableStore("the file was replaced; start the gateway again")
        with self._lock:
            if self._connections and not self._lost and self._log_is_gone():
                self._lose()
        if self._lost:
            raise UnusableStore(
                "its -wal or -shm file was deleted or replaced under the gateway; what it held is "
                "being saved: stop every process that uses the database, then start the gateway"
            )

    def connect(self) -> sqlite3.Connection:
        """A further connection to it, to be closed by `close`."""
        with self._lock:
            self.check()
            connection = connect(self.path, self.busy_seconds)
            try:
                schema.require(connection)
            except BaseException:
                connection.close()
                raise
            if not self._connections:
                self._log = self._log_now()
            self._connections += 1
            return connection

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection, and save what only a log without a name holds."""
        with self._lock:
            try:
                if self._lost and _identity_if_any(self._wal) is None:
                    # Where there is another one, somebody reads by that already.
                    with suppress(sqlite3.Error):
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connections -= 1
                connection.close()

    def _lose(self) -> None:
        self._lost = True
        for tell in self.on_lost:
            tell()

    def _log_is_gone(self) -> bool:
        now = self._log_now()
        return None in now or now != self._log

    def _log_now(self) -> tuple[Identity | None, ...]:
        return _identity_if_any(self._wal), _identity_if_any(self._shm)


def _identity(path: str) -> Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _identity_if_any(path: str) -> Identity | None:
    try:
        return _identity(path)
    except FileNotFoundError:
        return None
