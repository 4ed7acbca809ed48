"""Teams and keys. Every write takes the next generation, by which gateways ask what is new; only
a key's use does not, for it changes nothing for anybody.

What may become of what is decided in `gateway.tenants.operations`, on the directory as it stood.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.model import Key, Team
from gateway.stores.codec import decode_limits, decode_team, encode_limits, encode_team
from gateway.stores.faults import UnknownTeam
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.audit import write_audit
from gateway.stores.sqlite.threads import Threads, in_thread, transaction
from gateway.tenants.store import DirectoryChanges, DirectoryWrite

_NEXT = "UPDATE meta SET value = value + 1 WHERE name = 'generation' RETURNING value"
_PUT_TEAM = """
    INSERT INTO teams (name, generation, team) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, team = excluded.team
"""
_PUT_KEY = """
    INSERT INTO keys
        (id, team, name, digest, created, expires, state, limits, first, grace_ends, generation)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        team = excluded.team, name = excluded.name, digest = excluded.digest,
        created = excluded.created, expires = excluded.expires, state = excluded.state,
        limits = excluded.limits, first = excluded.first, grace_ends = excluded.grace_ends,
        generation = excluded.generation
"""
_PUT_USE = """
    INSERT INTO uses (key, at) VALUES (?, ?)
    ON CONFLICT (key) DO UPDATE SET at = max(at, excluded.at)
"""
_KEYS = """
    SELECT id, team, name, digest, created, expires, state, limits, first, grace_ends FROM keys
    WHERE generation > ? ORDER BY generation
"""


class SqliteDirectory:
    """The DirectoryStore in the tables of teams, keys and their uses."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads

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
    """Whether `value` is what was first given under `name`; the first one is kept."""
    row = (f"check:{name}", value)
    with transaction(connection):
        connection.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", row)
        ((kept,),) = connection.execute("SELECT value FROM meta WHERE name = ?", row[:1])
    return bool(kept == value)


# -- in the transaction that is open --------------------------------------------------------------


def next_generation(connection: sqlite3.Connection) -> int:
    """Take the next generation."""
    ((generation,),) = connection.execute(_NEXT)
    return int(generation)


def write_teams(connection: sqlite3.Connection, teams: Sequence[Team], generation: int) -> None:
    """Create or replace teams."""
    rows = [(team.name, generation, encode_team(team)) for team in teams]
    connection.executemany(_PUT_TEAM, rows)


def write_key(connection: sqlite3.Connection, key: Key, generation: int) -> None:
    """Create or replace a key. Raises UnknownTeam."""
    limits = encode_limits(key.limits)
    row = (key.id, key.team, key.name, key.digest, key.created, key.expires, key.state, limits)
    try:
        connection.execute(_PUT_KEY, (*row, key.first, key.grace_ends, generation))
    except sqlite3.IntegrityError as failure:
        if failure.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise UnknownTeam(key.team) from failure
        raise


def all_uses(connection: sqlite3.Connection) -> dict[str, float]:
    """Return when each key was last used, by id."""
    return dict(connection.execute("SELECT key, at FROM uses"))


def teams_after(connection: sqlite3.Connection, after: int) -> list[Team]:
    """The teams written after generation `after`, in the order of writing."""
    rows = connection.execute(
        "SELECT team FROM teams WHERE generation > ? ORDER BY generation", (after,)
    )
    return [decode_team(text) for (text,) in rows]


def keys_after(connection: sqlite3.Connection, after: int) -> list[Key]:
    """The keys written after generation `after`, in the order of writing."""
    return [_key(row) for row in connection.execute(_KEYS, (after,))]


def _key(row: tuple[Any, ...]) -> Key:
    id, team, name, digest, created, expires, state, limits, first, grace_ends = row
    return Key(
        id=id,
        team=team,
        name=name,
        digest=digest,
        created=created,
        expires=expires,
        state=state,
        limits=decode_limits(limits),
        first=first,
        grace_ends=grace_ends,
    )
