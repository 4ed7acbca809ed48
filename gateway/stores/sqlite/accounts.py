"""Budgets: accounts with versions, read together and written all or none.

Everything here runs in a worker's thread. The clock's mark is written in the transaction of every
swap, so a decision that was written is never followed by an earlier time.

Accounts read or written last are kept decoded: a version stands for one state only, so comparing
versions is enough.
"""

import sqlite3
from collections.abc import Sequence

from gateway.model import Entry
from gateway.ports import Change, Loaded
from gateway.rules.account import EMPTY, Account
from gateway.stores.clock import StoreClock
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.clock_watch import ClockWatch
from gateway.stores.sqlite.usage import write_entries

KEPT = 4096
"""Decoded accounts kept at most."""

_SELECT = """
    SELECT version, CASE version WHEN ? THEN NULL ELSE state END FROM accounts WHERE name = ?
"""
_INSERT = """
    INSERT INTO accounts (version, due, state, name) VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE accounts SET version = version + 1, due = ?, state = ? WHERE name = ? AND version = ?
"""


class Accounts:
    """The accounts table, and the time by which it is read and written."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._watch = ClockWatch(clock)
        # Used by two threads: each operation on it is a single one of the dictionary's own.
        self._kept: dict[str, tuple[int, Account]] = {}

    def load(self, connection: sqlite3.Connection, names: Sequence[str]) -> Loaded:
        """The named accounts in one snapshot, and the time."""
        connection.execute("BEGIN")
        accounts = [self._load(connection, name) for name in names]
        mark = schema.value(connection, "clock")
        connection.execute("COMMIT")
        now = self._clock.read(mark)
        self._watch.look()
        return Loaded(accounts, now)

    def swap(
        self, connection: sqlite3.Connection, changes: Sequence[Change], entries: Sequence[Entry]
    ) -> bool:
        """Write all changes and entries, or nothing where a version has moved on (False)."""
        states = [encode_account(change.account) for change in changes]
        connection.execute("BEGIN IMMEDIATE")
        for change, state in zip(changes, states, strict=True):
            if not _write(connection, change, state):
                connection.execute("ROLLBACK")
                return False
        write_entries(connection, entries)
        connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE name = 'clock'", (self._clock.read(),)
        )
        connection.execute("COMMIT")
        for change in changes:
            self._keep(change.name, change.version + 1, change.account)
        return True

    def due(self, connection: sqlite3.Connection) -> list[str]:
        """The names of the accounts with a hold whose lease has run out, longest ago first."""
        now = self._clock.read(schema.value(connection, "clock"))
        rows = connection.execute("SELECT name FROM accounts WHERE due <= ? ORDER BY due", (now,))
        return [name for (name,) in rows]

    def _load(self, connection: sqlite3.Connection, name: str) -> tuple[Account, int]:
        known, account = self._kept.get(name, (0, EMPTY))
        row = connection.execute(_SELECT, (known, name)).fetchone()
        if row is None:
            return EMPTY, 0
        version, state = row
        if state is not None:
            account = decode_account(state)
            self._keep(name, version, account)
        return account, version

    def _keep(self, name: str, version: int, account: Account) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[name] = (version, account)


def _write(connection: sqlite3.Connection, change: Change, state: bytes) -> bool:
    row = (change.account.earliest_lease, state, change.name)
    if change.version == 0:
        return connection.execute(_INSERT, row).rowcount == 1
    return connection.execute(_UPDATE, (*row, change.version)).rowcount == 1
