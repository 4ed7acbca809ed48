"""Records of operations, written in the transaction of the swap that decided them."""

import secrets
from collections.abc import Iterable, Sequence
from sqlite3 import Connection

from gateway.quota.operations import LEASE_SECONDS, NONE, Operations
from gateway.quota.store import RecordChange
from gateway.stores.codec import decode_operations, encode_operations

STAMP_BYTES = 8

_SELECT = "SELECT state, stamp FROM operations WHERE name = ?"
_INSERT = """
    INSERT INTO operations (name, stamp, ends, bought, state) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
_UPDATE = """
    UPDATE operations SET stamp = ?, ends = ?, bought = ?, state = ? WHERE name = ? AND stamp = ?
"""
_DELETE = "DELETE FROM operations WHERE name = ? AND stamp = ?"

_OVER = "SELECT 1 FROM operations WHERE ends <= ? LIMIT 1"
_SURPLUS = "SELECT count(*) > ? FROM operations"
_FORGET = """
    DELETE FROM operations WHERE rowid IN (
        SELECT rowid FROM operations WHERE bought ORDER BY bought DESC, ends
        LIMIT max(0, (SELECT count(*) FROM operations) - ?)
    )
"""


def load(connection: Connection, name: str) -> tuple[Operations, bytes]:
    """Return a record and its stamp."""
    row = connection.execute(_SELECT, (name,)).fetchone()
    return (NONE, b"") if row is None else (decode_operations(row[0]), row[1])


def write(connection: Connection, changes: Sequence[RecordChange]) -> bool:
    """Write records in the open transaction. Returns False where one has changed."""
    return all(_write(connection, change) for change in changes)


def _write(connection: Connection, change: RecordChange) -> bool:
    name, stamp, operations = change.name, change.stamp, change.operations
    if not operations.all:
        return not stamp or connection.execute(_DELETE, (name, stamp)).rowcount == 1
    row = (
        secrets.token_bytes(STAMP_BYTES),
        operations.ends,
        operations.expendable,
        encode_operations(operations),
    )
    if not stamp:
        return connection.execute(_INSERT, (name, *row)).rowcount == 1
    return connection.execute(_UPDATE, (*row, name, stamp)).rowcount == 1


def is_full(connection: Connection, now: float, most: int) -> bool:
    """Return whether `forget` would delete anything: it needs the writer."""
    over = connection.execute(_OVER, (now,)).fetchone()
    return over is not None or bool(connection.execute(_SURPLUS, (most,)).fetchone()[0])


def forget(connection: Connection, now: float, most: int) -> None:
    """Delete what has ended, and what is expendable where there are more than `most`."""
    connection.execute("DELETE FROM operations WHERE ends <= ?", (now,))
    connection.execute(_FORGET, (most,))


def keep_alive(connection: Connection, gateway: str, now: float, ends: float) -> None:
    """Write the lease of a gateway, and delete those that ended long ago."""
    connection.execute("DELETE FROM gateways WHERE ends < ?", (now - 720 * LEASE_SECONDS,))
    connection.execute("REPLACE INTO gateways VALUES (?, ?)", (gateway, ends))


def alive(connection: Connection, gateways: Iterable[str]) -> dict[str, float]:
    """Return when the leases of gateways end."""
    query = "SELECT id, ends FROM gateways WHERE id = ?"
    return dict(row for id in gateways for row in connection.execute(query, (id,)))
