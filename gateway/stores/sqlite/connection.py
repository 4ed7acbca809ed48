"""Connections to the database file, each with the settings that the promises rest on.

`synchronous=FULL`: a commit that was acknowledged outlives a power failure. Transactions are
written out by hand (`isolation_level=None`), so that each one is seen where it begins and ends.

A connection never creates the file. Were the file deleted under a running gateway, SQLite would
go on writing into what has no name any more, and a new one would be a fresh budget for everybody.
So a connection knows its file again, and opening is the only place that creates one.
"""

import os
import sqlite3
from pathlib import Path

Identity = tuple[int, int]

_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Damage is to be found out before it is read as something else.
    "PRAGMA cell_size_check = ON",
    # A long report lets the log grow; the next checkpoint gives the disk its space back.
    "PRAGMA journal_size_limit = 67108864",
)


class Connection(sqlite3.Connection):
    """A connection to the file that had `identity` (device and inode) when it was opened."""

    path: Path
    identity: Identity

    @property
    def in_place(self) -> bool:
        """Whether the file opened is still the one under its name. Raises OSError if none is."""
        return _identity(self.path) == self.identity


def connect(path: Path, busy_seconds: float) -> Connection:
    """Open an existing file, by its absolute path; locks are waited for up to `busy_seconds`.

    Raises sqlite3.Error or OSError.
    """
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        factory=Connection,
    )
    try:
        connection.path = path
        connection.identity = _identity(path)
        for setting in _SETTINGS:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _identity(path: Path) -> Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino
