"""Teams and keys. Every write takes the next generation, and gateways ask for what came after one.

A key's use takes none: it changes nothing that a gateway has to reload. What a change does is
decided in `gateway.tenants.operations`, from the directory that the caller has read.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from gateway.core.model import Key, Team
from gateway.stores.codec import decode_limits, decode_team, encode_json
from gateway.stores.errors import UnknownTeam
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.audit import write_audit
from gateway.stores.sqlite.threads import SqlitePart, in_thread, transaction
from gateway.tenants.store import DirectoryChanges, DirectoryWrite

_NEXT = "UPDATE meta SET value = value + 1 WHERE name = 'generation' RETURNING value"
_PUT_TEAM = """
    INSERT INTO teams (name, generation, team) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, team = excluded.team
"""
_FIELDS = Key.__struct_fields__
_COLUMNS = (*_FIELDS, "generation")
# Only names of fields are put into the statements, never a value.
_PUT_KEY = f"""
    INSERT INTO keys ({", ".join(_COLUMNS)}) VALUES ({", ".join(f":{name}" for name in _COLUMNS)})
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608
_KEYS = f"SELECT {', '.join(_FIELDS)} FROM keys WHERE generation > ? ORDER BY generation"  # noqa: S608
_PUT_USE = """
    INSERT INTO uses (key, at) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET at = max(at, excluded.at)
"""


class SqliteDirectory(SqlitePart):
    """The DirectoryStore in the tables of teams, keys and their uses."""

    @in_thread("reader", "changes")
    def changes(self, connection: sqlite3.Connection, since: int) -> DirectoryChanges:
        connection.execute("BEGIN")
        generation = int(schema.value(connection, "generation"))
        # A later generation than the present one was given out by another file: a backup has
        # taken its place.
        after = since if since <= generation else 0
        teams, keys = teams_after(connection, after), keys_after(connection, after)
        connection.execute("COMMIT")
        return DirectoryChanges(generation, teams, keys, whole=after == 0)

    @in_thread("writer", "commit")
    def commit(
        self, connection: sqlite3.Connection, generation: int, write: DirectoryWrite
    ) -> bool:
        with transaction(connection):
            if int(schema.value(connection, "generation")) != generation:
                return False
            if write.teams or write.keys:
                generation = next_generation(connection)
            write_teams(connection, write.teams, generation)
            for key in write.keys:
                write_key(connection, key, generation)
            write_audit(connection, write.audit)
        return True

    @in_thread("writer", "record_use")
    def record_use(self, connection: sqlite3.Connection, uses: Mapping[str, float]) -> None:
        with transaction(connection):
            connection.executemany(_PUT_USE, uses.items())

    @in_thread("reports", "last_uses")
    def last_uses(self, connection: sqlite3.Connection) -> dict[str, float]:
        return all_uses(connection)


def check_value(connection: sqlite3.Connection, name: str, value: bytes) -> bool:
    """Keep the first value under `name`; return whether `value` equals it."""
    row = (f"check:{name}", value)
    with transaction(connection):
        connection.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", row)
        ((kept,),) = connection.execute("SELECT value FROM meta WHERE name = ?", row[:1])
    return bool(kept == value)


# -- in the open transaction ----------------------------------------------------------------------


def next_generation(connection: sqlite3.Connection) -> int:
    """Take the next generation."""
    ((generation,),) = connection.execute(_NEXT)
    return int(generation)


def write_teams(connection: sqlite3.Connection, teams: Sequence[Team], generation: int) -> None:
    """Create or replace teams."""
    rows = [(team.name, generation, encode_json(team)) for team in teams]
    connection.executemany(_PUT_TEAM, rows)


def write_key(connection: sqlite3.Connection, key: Key, generation: int) -> None:
    """Create or replace a key. Raises UnknownTeam."""
    row = {**asdict(key), "limits": encode_json(key.limits), "generation": generation}
    try:
        connection.execute(_PUT_KEY, row)
    except sqlite3.IntegrityError as failure:
        if failure.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise UnknownTeam(key.team) from failure
        raise


def teams_after(connection: sqlite3.Connection, after: int) -> list[Team]:
    """Return the teams written after generation `after`, in the order of writing."""
    query = "SELECT team FROM teams WHERE generation > ? ORDER BY generation"
    return [decode_team(text) for (text,) in connection.execute(query, (after,))]


def keys_after(connection: sqlite3.Connection, after: int) -> list[Key]:
    """Return the keys written after generation `after`, in the order of writing."""
    return [_key(row) for row in connection.execute(_KEYS, (after,))]


def all_uses(connection: sqlite3.Connection) -> dict[str, float]:
    """Return when each key was last used, by id."""
    return dict(connection.execute("SELECT key, at FROM uses"))


def _key(row: Sequence[Any]) -> Key:
    fields = dict(zip(_FIELDS, row, strict=True))
    return Key(**{**fields, "limits": decode_limits(fields["limits"])})
