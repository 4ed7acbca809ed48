"""Connections to the database file, each with the settings that the promises rest on.

`synchronous=FULL`: a commit that was acknowledged outlives a power failure. Transactions are
written out by hand (`isolation_level=None`), so that each one is seen where it begins and ends.

A connection never creates the file, and a store only ever uses the file that it opened first.
Were that one deleted under a running gateway, SQLite would go on writing into what has no name
any more, and a new one would be a fresh budget for everybody. A backup put in its place would
be mixed with the old one's log. So both are an outage, until the file is back or the gateway
is started again.
"""

import os
import sqlite3
from pathlib import Path

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
    """The file of one store. Everything raises OSError, sqlite3.Error or UnusableStore."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self.path = path
        self.busy_seconds = busy_seconds
        self._opened: tuple[int, int] | None = None

    def opened(self) -> None:
        """From now on it is the file that is there now."""
        self._opened = self._identity()

    def check(self) -> None:
        """Raise unless the file that was opened is still the one under its name."""
        if self._identity() != self._opened:
            raise UnusableStore("the file was replaced; start the gateway again")

    def connect(self) -> sqlite3.Connection:
        """A further connection to it."""
        connection = connect(self.path, self.busy_seconds)
        try:
            schema.require(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self.path)
        return status.st_dev, status.st_ino
