"""Claims: what gateways of one store do once only. Each ends by the store's clock.

Those that have ended are forgotten with the next one that is made.
"""

import sqlite3

from gateway.core.model import Claim
from gateway.stores.clock import StoreClock
from gateway.stores.sqlite import schema

_FORGET = "DELETE FROM claims WHERE ends <= ?"
_FIND = "SELECT owner, ends, done FROM claims WHERE name = ?"
_WRITE = "INSERT OR REPLACE INTO claims (name, owner, ends, done, note) VALUES (?, ?, ?, ?, ?)"
_ALL = "SELECT name, owner, ends, done, note FROM claims WHERE ends > ? ORDER BY ends DESC, name"


class Claims:
    """The claims table, and the time by which they end."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock

    def claim(
        self, connection: sqlite3.Connection, name: str, owner: str, seconds: float, note: bytes
    ) -> float | None:
        """Claim it, or tell in how many seconds it can be claimed."""
        now = self._begin(connection)
        found = connection.execute(_FIND, (name,)).fetchone()
        if found is not None and (found[0] != owner or found[2]):
            connection.execute("ROLLBACK")
            return float(found[1]) - now
        connection.execute(_WRITE, (name, owner, now + seconds, False, note))
        connection.execute("COMMIT")
        return None

    def complete(
        self, connection: sqlite3.Connection, name: str, owner: str, seconds: float, note: bytes
    ) -> None:
        """Mark it as done for so many seconds."""
        now = self._begin(connection)
        connection.execute(_WRITE, (name, owner, now + seconds, True, note))
        connection.execute("COMMIT")

    def all(self, connection: sqlite3.Connection) -> list[Claim]:
        """Those that have not ended."""
        return claims_after(connection, self._now(connection))

    def _begin(self, connection: sqlite3.Connection) -> float:
        """Begin to write, and forget what has ended. Tells the time."""
        connection.execute("BEGIN IMMEDIATE")
        now = self._now(connection)
        connection.execute(_FORGET, (now,))
        return now

    def _now(self, connection: sqlite3.Connection) -> float:
        return self._clock.read(schema.value(connection, "clock"))


def claims_after(connection: sqlite3.Connection, now: float) -> list[Claim]:
    """Those that have not ended by then."""
    return [
        Claim(name=name, owner=owner, ends=ends, done=bool(done), note=note)
        for name, owner, ends, done, note in connection.execute(_ALL, (now,))
    ]


def write_claim(connection: sqlite3.Connection, claim: Claim) -> None:
    """Write it as it was."""
    row = (claim.name, claim.owner, claim.ends, claim.done, claim.note)
    connection.execute(_WRITE, row)
