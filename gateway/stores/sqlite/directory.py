"""Teams, keys and the audit log. Every write of teams and keys takes the next generation, and
gateways ask for what came after one.

A key's use takes none: it changes nothing that a gateway has to reload. What a change does is
decided in `gateway.tenants.operations`, from the directory that the caller has read. Its entry in
the audit log is written in the same transaction.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from sqlite3 import Connection
from typing import Any

import msgspec
from msgspec.structs import asdict, astuple

from gateway.core.model import AuditEntry, Key, Team
from gateway.stores.codec import decode_limits, decode_team, encode_json, from_values
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.threads import SqlitePart, in_thread, transaction
from gateway.tenants.store import DirectoryChanges, DirectoryWrite, UnknownTeam

_NEXT = "UPDATE meta SET value = value + 1 WHERE name = 'generation' RETURNING value"
_PUT_TEAM = """
    INSERT INTO teams (name, generation, team) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, team = excluded.team
"""
_TEAMS = "SELECT team FROM teams WHERE generation > ? ORDER BY generation"
_FIELDS = Key.__struct_fields__
_COLUMNS = (*_FIELDS, "generation")
# Only names of fields are put into these statements, never a value (S608).
_PUT_KEY = f"""
    INSERT INTO keys ({", ".join(_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""
_KEYS = f"SELECT {', '.join(_FIELDS)} FROM keys WHERE generation > ? ORDER BY generation"
_PUT_USE = """
    INSERT INTO uses (key, at) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET at = max(at, excluded.at)
"""
_AUDIT_COLUMNS = ", ".join(AuditEntry.__struct_fields__)
_WRITE_AUDIT = f"INSERT INTO audit ({_AUDIT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
_READ_AUDIT = f"""
    SELECT {_AUDIT_COLUMNS} FROM audit WHERE at >= ? AND at < ? AND (? IS NULL OR team = ?)
    ORDER BY at DESC, number DESC LIMIT ?
"""
_ALL_AUDIT = f"SELECT {_AUDIT_COLUMNS} FROM audit ORDER BY at, number"
_NO_LIMIT = -1


class SqliteDirectory(SqlitePart):
    """The DirectoryStore in the tables of teams, keys and their uses."""

    @in_thread("reader", "changes")
    def changes(self, connection: Connection, since: int) -> DirectoryChanges:
        connection.execute("BEGIN")
        generation = int(schema.value(connection, "generation"))
        # A later generation than the present one was given out by another file: a backup has
        # taken its place.
        after = since if since <= generation else 0
        teams, keys = teams_after(connection, after), keys_after(connection, after)
        connection.execute("COMMIT")
        return DirectoryChanges(generation, teams, keys, whole=after == 0)

    @in_thread("writer", "commit")
    def commit(self, connection: Connection, generation: int, write: DirectoryWrite) -> bool:
        with transaction(connection):
            if int(schema.value(connection, "generation")) != generation:
                return False
            if write.teams or write.keys:
                generation = next_generation(connection)
            write_directory(connection, write, generation)
        return True

    @in_thread("writer", "record_use")
    def record_use(self, connection: Connection, uses: Mapping[str, float]) -> None:
        with transaction(connection):
            connection.executemany(_PUT_USE, uses.items())

    @in_thread("reports", "last_uses")
    def last_uses(self, connection: Connection) -> dict[str, float]:
        return all_uses(connection)


class SqliteAudit(SqlitePart):
    """The AuditStore in the audit table."""

    @in_thread("reports", "audit")
    def entries(
        self,
        connection: Connection,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        bounds = (-inf if start is None else start, inf if end is None else end)
        most = _NO_LIMIT if limit is None else limit
        rows = connection.execute(_READ_AUDIT, (*bounds, team, team, most))
        return [_audit_entry(row) for row in rows]

    @in_thread("writer", "forget_audit")
    def forget(self, connection: Connection, before: float) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM audit WHERE at < ?", (before,))


def check_value(connection: Connection, name: str, value: bytes) -> bool:
    """Keep the first value under `name`; return whether `value` equals it."""
    row = (f"check:{name}", value)
    with transaction(connection):
        connection.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", row)
        ((kept,),) = connection.execute("SELECT value FROM meta WHERE name = ?", row[:1])
    return bool(kept == value)


# -- in the open transaction ----------------------------------------------------------------------


def next_generation(connection: Connection) -> int:
    """Take the next generation."""
    ((generation,),) = connection.execute(_NEXT)
    return int(generation)


def write_directory(connection: Connection, write: DirectoryWrite, generation: int) -> None:
    """Create or replace teams and keys, and write audit entries. Raises UnknownTeam."""
    teams = [(team.name, generation, encode_json(team)) for team in write.teams]
    connection.executemany(_PUT_TEAM, teams)
    for key in write.keys:
        row = {**asdict(key), "limits": encode_json(key.limits), "generation": generation}
        try:
            connection.execute(_PUT_KEY, row)
        except sqlite3.IntegrityError as failure:
            if failure.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
                raise UnknownTeam(key.team) from failure
            raise
    write_audit(connection, write.audit)


def write_audit(connection: Connection, entries: Iterable[AuditEntry]) -> None:
    """Write entries of the audit log."""
    connection.executemany(_WRITE_AUDIT, map(_audit_row, entries))


def teams_after(connection: Connection, after: int) -> list[Team]:
    """Return the teams written after generation `after`, in the order of writing."""
    return [decode_team(text) for (text,) in connection.execute(_TEAMS, (after,))]


def keys_after(connection: Connection, after: int) -> list[Key]:
    """Return the keys written after generation `after`, in the order of writing."""
    return [_key(row) for row in connection.execute(_KEYS, (after,))]


def all_uses(connection: Connection) -> dict[str, float]:
    """Return when each key was last used, by id."""
    return dict(connection.execute("SELECT key, at FROM uses"))


def all_audit_entries(connection: Connection) -> Iterator[AuditEntry]:
    """Yield the whole audit log, the earliest entry first."""
    for row in connection.execute(_ALL_AUDIT):
        yield _audit_entry(row)


def _key(row: Sequence[Any]) -> Key:
    fields = dict(zip(_FIELDS, row, strict=True))
    return Key(**{**fields, "limits": decode_limits(fields["limits"])})


def _audit_row(entry: AuditEntry) -> tuple[object, ...]:
    *fields, before, after = astuple(entry)
    return *fields, *(msgspec.json.encode(value).decode() for value in (before, after))


def _audit_entry(row: Sequence[Any]) -> AuditEntry:
    *fields, before, after = row
    states = map(msgspec.json.decode, (before, after))
    return from_values(AuditEntry, (*fields, *states))
