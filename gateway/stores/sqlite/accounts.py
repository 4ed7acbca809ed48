"""Budgets: accounts with versions, read together and written all or none.

Everything here runs in a worker's thread. The clock's mark is written in the transaction of every
swap, so a decision that was written is never followed by an earlier time.

A version alone does not say which state it stands for: a back-up that is written into the database
under a running gateway lets versions be given out again. So each state has a random stamp.
Accounts read or written last are kept decoded under version and stamp. A database that went back
is told of, not refused, as a Redis is (see `gateway.quota.ledger`).
"""

import secrets
import sqlite3
from collections.abc import Mapping, Sequence

from gateway.core.model import Entry
from gateway.quota.account import EMPTY, Account
from gateway.quota.store import Change, Loaded
from gateway.stores.clock import StoreClock
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.sqlite import schema, usage_entries
from gateway.stores.sqlite.clock_watch import ClockWatch
from gateway.stores.sqlite.threads import Threads, in_thread, transaction

KEPT = 4096
"""Decoded accounts kept at most."""

_SELECT = """
    SELECT version, stamp, CASE (version, stamp) WHEN (?, ?) THEN NULL ELSE state END
    FROM accounts WHERE name = ?
"""
_INSERT = """
    INSERT INTO accounts (version, stamp, due, state, name) VALUES (1, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE accounts SET version = version + 1, stamp = ?, due = ?, state = ?
    WHERE name = ? AND version = ? AND stamp = ?
"""

_STAMP_BITS = 63

_Kept = tuple[int, int, Account]
"""Version, stamp, account."""

_NEVER_WRITTEN: _Kept = (0, 0, EMPTY)


class SqliteAccounts:
    """The AccountStore in the accounts table, with the clock that it is read by."""

    def __init__(self, threads: Threads, clock: StoreClock) -> None:
        self.threads = threads
        self._clock = clock
        self._watch = ClockWatch(clock)
        # Used by two threads: each operation on it is a single one of the dictionary's own.
        self._kept: dict[str, _Kept] = {}

    @in_thread("reader", "load")
    def load(self, connection: sqlite3.Connection, names: Sequence[str]) -> Loaded:
        # Before the snapshot is taken: it must not be older than what is known.
        known = [self._kept.get(name, _NEVER_WRITTEN) for name in names]
        connection.execute("BEGIN")
        accounts = [
            self._load(connection, name, kept) for name, kept in zip(names, known, strict=True)
        ]
        mark = schema.value(connection, "clock")
        connection.execute("COMMIT")
        now = self._clock.read(mark)
        self._watch.look()
        return Loaded(accounts, now)

    @in_thread("writer", "swap")
    def swap(
        self, connection: sqlite3.Connection, changes: Sequence[Change], entries: Sequence[Entry]
    ) -> bool:
        states = [encode_account(change.account) for change in changes]
        stamps = [secrets.randbits(_STAMP_BITS) for _ in changes]
        connection.execute("BEGIN IMMEDIATE")
        for change, state, stamp in zip(changes, states, stamps, strict=True):
            if not self._write(connection, change, state, stamp):
                connection.execute("ROLLBACK")
                return False
        usage_entries.write_entries(connection, entries)
        connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE name = 'clock'", (self._clock.read(),)
        )
        connection.execute("COMMIT")
        for change, stamp in zip(changes, stamps, strict=True):
            self._keep(change.name, (change.version + 1, stamp, change.account))
        return True

    @in_thread("writer", "record")
    def record(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        with transaction(connection):
            usage_entries.write_entries(connection, entries)

    @in_thread("reader", "written")
    def written(self, connection: sqlite3.Connection, purchases: Mapping[str, float]) -> set[str]:
        return usage_entries.written(connection, purchases)

    @in_thread("reader", "due")
    def due(self, connection: sqlite3.Connection) -> list[str]:
        now = self._clock.read(schema.value(connection, "clock"))
        rows = connection.execute("SELECT name FROM accounts WHERE due <= ? ORDER BY due", (now,))
        return [name for (name,) in rows]

    def _load(self, connection: sqlite3.Connection, name: str, known: _Kept) -> tuple[Account, int]:
        row = connection.execute(_SELECT, (*known[:2], name)).fetchone()
        version, stamp, state = row or (0, 0, None)
        if version < known[0] or (version == known[0] and stamp != known[1]):
            self._kept.pop(name, None)  # tell it once
            self.threads.went_back(name)
        if row is None:
            return EMPTY, 0
        if state is None:
            return known[2], version
        account = decode_account(state)
        self._keep(name, (version, stamp, account))
        return account, version

    def _write(
        self, connection: sqlite3.Connection, change: Change, state: bytes, stamp: int
    ) -> bool:
        row = (stamp, change.account.earliest_lease, state, change.name)
        if change.version == 0:
            return connection.execute(_INSERT, row).rowcount == 1
        version, loaded, _ = self._kept.get(change.name, _NEVER_WRITTEN)
        if version != change.version:  # it is not what this gateway would replace
            return False
        return connection.execute(_UPDATE, (*row, version, loaded)).rowcount == 1

    def _keep(self, name: str, kept: _Kept) -> None:
        if len(self._kept) >= KEPT:
            self._kept.clear()
        self._kept[name] = kept
