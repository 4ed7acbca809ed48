"""Budgets: accounts with versions, read together and written all or none.

The clock's mark is written in the transaction of every swap, so no decision that was written is
ever followed by an earlier time.

A version alone does not identify a state: a backup that is copied into the database under a
running gateway lets versions be given out again. So each state has a random stamp, and the
accounts used last are cached in decoded form under version and stamp. Where the database lost
writes, that is logged, not refused, as with Redis (see `gateway.quota.ledger`).
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection

from gateway.core.model import AuditEntry, Entry
from gateway.quota.account import EMPTY, Account
from gateway.quota.store import Change, Loaded, RecordChange
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.sqlite import directory, operations, purchases, schema
from gateway.stores.sqlite.clock import StoreClock
from gateway.stores.sqlite.threads import SqlitePart, Threads, in_thread, transaction

CACHED = 4096
"""Decoded accounts in memory, at most."""

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

_PROBE = "INSERT OR REPLACE INTO meta VALUES ('probe', randomblob(?))"
_PURCHASE_BYTES = 32_768
"""A reservation and its settlement write up to eight pages of 4096 bytes."""

_Cached = tuple[int, int, Account]
"""Version, stamp, account."""

_NEVER_WRITTEN: _Cached = (0, 0, EMPTY)


class SqliteAccounts(SqlitePart):
    """The AccountStore in the accounts table, with the clock that it is read by."""

    def __init__(self, threads: Threads, clock: StoreClock) -> None:
        super().__init__(threads)
        self._clock = clock
        # Two threads use it, and each operation on it is a single one of the dictionary's own.
        self._cache: dict[str, _Cached] = {}

    @in_thread("reader", "load")
    def load(
        self, connection: Connection, names: Sequence[str], records: Sequence[str] = ()
    ) -> Loaded:
        # Before the snapshot begins: the snapshot must not be older than the cache.
        cached = [self._cache.get(name, _NEVER_WRITTEN) for name in names]
        connection.execute("BEGIN")
        accounts = [
            self._load(connection, name, known) for name, known in zip(names, cached, strict=True)
        ]
        found = [operations.load(connection, name) for name in records]
        mark = schema.value(connection, "clock")
        connection.execute("COMMIT")
        return Loaded(accounts, self._clock.read(mark), found)

    @in_thread("writer", "swap")
    def swap(
        self,
        connection: Connection,
        changes: Sequence[Change],
        entries: Sequence[Entry],
        records: Sequence[RecordChange] = (),
        audit: Sequence[AuditEntry] = (),
    ) -> bool:
        states = [encode_account(change.account) for change in changes]
        stamps = [secrets.randbits(_STAMP_BITS) for _ in changes]
        connection.execute("BEGIN IMMEDIATE")
        for change, state, stamp in zip(changes, states, stamps, strict=True):
            if not self._write(connection, change, state, stamp):
                connection.execute("ROLLBACK")
                return False
        if not operations.write(connection, records):
            connection.execute("ROLLBACK")
            return False
        if not purchases.write_entries(connection, entries):
            connection.execute("ROLLBACK")
            return False
        directory.write_audit(connection, audit)
        schema.advance(connection, "clock", self._clock.read())
        connection.execute("COMMIT")
        for change, stamp in zip(changes, stamps, strict=True):
            self._remember(change.name, (change.version + 1, stamp, change.account))
        return True

    @in_thread("writer", "record")
    def record(self, connection: Connection, entries: Sequence[Entry]) -> None:
        with transaction(connection):
            purchases.write_entries(connection, entries)

    @in_thread("writer", "probe")
    def probe(self, connection: Connection, *, thorough: bool) -> None:
        with transaction(connection):
            schema.advance(connection, "clock", self._clock.read())
            if thorough:
                connection.execute(_PROBE, (_PURCHASE_BYTES,))

    @in_thread("reader", "written")
    def written(self, connection: Connection, purchases: Mapping[str, float]) -> set[str]:
        query = "SELECT 1 FROM entries WHERE id = ?"
        return {id for id in purchases if connection.execute(query, (id,)).fetchone()}

    @in_thread("reader", "due")
    def due(self, connection: Connection) -> list[str]:
        now = self._clock.read(schema.value(connection, "clock"))
        rows = connection.execute("SELECT name FROM accounts WHERE due <= ? ORDER BY due", (now,))
        return [name for (name,) in rows]

    @in_thread("writer", "keep_alive")
    def keep_alive(self, connection: Connection, gateway: str, seconds: float) -> None:
        with transaction(connection):
            now = self._clock.read(schema.value(connection, "clock"))
            operations.keep_alive(connection, gateway, now, now + seconds)

    @in_thread("reader", "alive")
    def alive(self, connection: Connection, gateways: Iterable[str]) -> dict[str, float]:
        return operations.alive(connection, gateways)

    async def forget_operations(self, most: int) -> None:
        if await self._is_full(most):
            await self._forget(most)

    @in_thread("reader", "forget_operations")
    def _is_full(self, connection: Connection, most: int) -> bool:
        return operations.is_full(connection, self._clock.read(), most)

    @in_thread("writer", "forget_operations")
    def _forget(self, connection: Connection, most: int) -> None:
        with transaction(connection):
            operations.forget(connection, self._clock.read(), most)

    def _load(self, connection: Connection, name: str, cached: _Cached) -> tuple[Account, int]:
        row = connection.execute(_SELECT, (*cached[:2], name)).fetchone()
        version, stamp, state = row or (0, 0, None)
        account = EMPTY if state is None else decode_account(state)
        if version < cached[0] or (version == cached[0] and stamp != cached[1]):
            self._cache.pop(name, None)  # so that it is reported once
            self.threads.operations.went_back(name, cached[2], account)
        if row is None:
            return EMPTY, 0
        if state is None:
            return cached[2], version
        self._remember(name, (version, stamp, account))
        return account, version

    def _write(self, connection: Connection, change: Change, state: bytes, stamp: int) -> bool:
        row = (stamp, change.account.earliest_lease, state, change.name)
        if change.version == 0:
            return connection.execute(_INSERT, row).rowcount == 1
        version, loaded, _ = self._cache.get(change.name, _NEVER_WRITTEN)
        if version != change.version:  # this gateway has not loaded what it would replace
            return False
        return connection.execute(_UPDATE, (*row, version, loaded)).rowcount == 1

    def _remember(self, name: str, cached: _Cached) -> None:
        if len(self._cache) >= CACHED:
            self._cache.clear()
        self._cache[name] = cached
