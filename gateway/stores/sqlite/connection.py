"""Connections to the database file, with the settings that the gateway's promises rest on.

`synchronous=FULL`: a commit that was acknowledged survives a power failure. Transactions are
explicit (`isolation_level=None`), so that the code shows where each one begins and ends.

A connection never creates the file, and a store only uses the file that it opened first. Were
that file deleted under a running gateway, SQLite would go on writing into a file without a name,
and a new file would give everybody a fresh budget. A backup put in its place would be mixed with
the old file's log. So both are an outage until the file is back or the gateway is restarted.

The same goes for the log. A `-wal` file without a name is lost with the process. The next process
to open the database makes a new log, which processes with the old one do not see. So once the log
is gone, every connection writes its part of it into the database file and closes, and none is
opened again. Other processes with the old log may take a moment longer. Only a restart makes sure
that none is left.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from threading import RLock

from gateway.stores.port import UnusableStore
from gateway.stores.sqlite import schema

_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Damage is to be found before it is read as something else.
    "PRAGMA cell_size_check = ON",
    # A long report lets the log grow; the next checkpoint gives the disk its space back.
    "PRAGMA journal_size_limit = 67108864",
)

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_CAUSES = {
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened for reading and writing",
    sqlite3.SQLITE_FULL: "the disk is full",
    **dict.fromkeys(_BUSY, "another process has locked it"),
}

Identity = tuple[int, int]
"""A file's device and inode."""


def connect(path: Path, busy_seconds: float) -> Connection:
    """Open an existing file by its absolute path; wait up to `busy_seconds` for a lock.

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


def cause_of(failure: Exception) -> str:
    """Return why a database cannot be used, as the end of a sentence."""
    cause = failure.strerror if isinstance(failure, OSError) else _CAUSES.get(_code(failure))
    return cause or str(failure)


def is_busy(failure: Exception) -> bool:
    """Return whether another process held the lock for too long."""
    return _code(failure) in _BUSY


def _code(failure: Exception) -> int:
    """Return SQLite's primary error code; 0 where the error is not SQLite's own."""
    return int(getattr(failure, "sqlite_errorcode", 0)) & 0xFF


class Database:
    """The file of one store. Methods raise OSError, sqlite3.Error or UnusableStore.

    Once the log is found to be gone, `on_lost` are called, in any thread: each owner of a
    connection must close it.
    """

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self.busy_seconds = busy_seconds
        self.on_lost: list[Callable[[], None]] = []
        # As text: os.stat turns a path into text each time, and three calls take 3 us, not 9.
        # SQLite keeps the log beside the file that a symbolic link names.
        self._file, file = str(path), os.path.realpath(path)
        self._wal, self._shm = f"{file}-wal", f"{file}-shm"
        self._opened: Identity | None = None
        # The log belongs to the connections: SQLite deletes it with the last one.
        self._lock = RLock()
        self._connections = 0
        self._log: tuple[Identity | None, ...] = ()
        self._lost = False

    def opened(self) -> None:
        """Remember the present file as the one to use."""
        self._opened = _identity(self._file)

    def check(self) -> None:
        """Raise unless the file that was opened is still under its name, with its log."""
        if _identity(self._file) != self._opened:
            raise UnusableStore("the file was replaced; start the gateway again")
        with self._lock:
            if self._connections and not self._lost:
                log = self._log_now()
                if None in log or log != self._log:
                    self._lost = True
                    for close_connection in self.on_lost:
                        close_connection()
        if self._lost:
            raise UnusableStore(
                "its -wal or -shm file was deleted or replaced under the gateway; its contents are "
                "being saved: stop every process that uses the database, then start the gateway"
            )

    def connect(self) -> Connection:
        """Open a further connection, to be closed by `close`."""
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

    def close(self, connection: Connection) -> None:
        """Close a connection. Where the log has lost its name, save its part of it first."""
        with self._lock:
            try:
                if self._lost and _identity_if_any(self._wal) is None:
                    # Where a new log exists, another process reads by that one already.
                    with suppress(sqlite3.Error):
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self._connections -= 1
                connection.close()

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
