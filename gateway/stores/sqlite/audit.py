"""The audit log: written in the transaction of the change, read the latest first."""

import sqlite3
from collections.abc import Iterator, Sequence
from math import inf

import msgspec

from gateway.core.model import AuditEntry
from gateway.stores.sqlite.threads import SqlitePart, in_thread, transaction

_COLUMNS = ", ".join(AuditEntry.__struct_fields__)
_WRITE = f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_READ = f"""
    SELECT {_COLUMNS} FROM audit WHERE at >= ? AND at < ? AND (? IS NULL OR team = ?)
    ORDER BY at DESC, number DESC LIMIT ?
"""  # noqa: S608
_ALL = f"SELECT {_COLUMNS} FROM audit ORDER BY at, number"  # noqa: S608
_NO_LIMIT = -1


class SqliteAudit(SqlitePart):
    """The AuditStore in the audit table."""

    @in_thread("reports", "audit")
    def entries(
        self,
        connection: sqlite3.Connection,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        bounds = (-inf if start is None else start, inf if end is None else end)
        most = _NO_LIMIT if limit is None else limit
        return [_entry(*row) for row in connection.execute(_READ, (*bounds, team, team, most))]

    @in_thread("writer", "forget_audit")
    def forget(self, connection: sqlite3.Connection, before: float) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM audit WHERE at < ?", (before,))


def write_audit(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Write entries in the open transaction."""
    connection.executemany(_WRITE, map(_row, entries))


def all_audit_entries(connection: sqlite3.Connection) -> Iterator[AuditEntry]:
    """Yield the whole log, the earliest entry first."""
    for row in connection.execute(_ALL):
        yield _entry(*row)


def _row(entry: AuditEntry) -> tuple[object, ...]:
    *fields, before, after = msgspec.structs.astuple(entry)
    return *fields, *(msgspec.json.encode(value).decode() for value in (before, after))


def _entry(at: float, who: str, action: str, team: str, key: str, *states: str) -> AuditEntry:
    before, after = map(msgspec.json.decode, states)
    return AuditEntry(at=at, who=who, action=action, team=team, key=key, before=before, after=after)
