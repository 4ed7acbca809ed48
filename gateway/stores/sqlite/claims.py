"""Claims for what only one gateway of a store may do. Each ends by the store's clock.

Claims that have ended are deleted with the next one that is made.
"""

from collections.abc import Iterator
from sqlite3 import Connection

from gateway.core.model import Claim
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.clock import StoreClock
from gateway.stores.sqlite.threads import SqlitePart, Threads, in_thread, transaction

_FORGET = "DELETE FROM claims WHERE ends <= ?"
_FIND = "SELECT owner, ends, done FROM claims WHERE name = ?"
_WRITE = "INSERT OR REPLACE INTO claims (name, owner, ends, done, note) VALUES (?, ?, ?, ?, ?)"
_ALL = "SELECT name, owner, ends, done, note FROM claims WHERE ends > ? ORDER BY ends DESC, name"


class SqliteClaims(SqlitePart):
    """The ClaimStore in the claims table, with the clock that claims end by."""

    def __init__(self, threads: Threads, clock: StoreClock) -> None:
        super().__init__(threads)
        self._clock = clock

    @in_thread("writer", "claim")
    def claim(
        self, connection: Connection, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> float | None:
        with transaction(connection):
            now = self._forget_ended(connection)
            found = connection.execute(_FIND, (name,)).fetchone()
            if found is not None and (found[0] != owner or found[2]):
                return float(found[1]) - now
            connection.execute(_WRITE, (name, owner, now + seconds, False, note))
        return None

    @in_thread("writer", "complete_claim")
    def complete(
        self, connection: Connection, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        with transaction(connection):
            now = self._forget_ended(connection)
            connection.execute(_WRITE, (name, owner, now + seconds, True, note))

    @in_thread("reports", "claims")
    def current(self, connection: Connection) -> list[Claim]:
        return list(claims_after(connection, self._now(connection)))

    def _forget_ended(self, connection: Connection) -> float:
        """Delete the claims that have ended, and return the time."""
        now = self._now(connection)
        connection.execute(_FORGET, (now,))
        return now

    def _now(self, connection: Connection) -> float:
        return self._clock.read(schema.value(connection, "clock"))


def claims_after(connection: Connection, now: float) -> Iterator[Claim]:
    """Yield the claims that end after `now`."""
    for name, owner, ends, done, note in connection.execute(_ALL, (now,)):
        yield Claim(name=name, owner=owner, ends=ends, done=bool(done), note=note)


def write_claim(connection: Connection, claim: Claim) -> None:
    """Write a claim from an archive, in the open transaction."""
    connection.execute(_WRITE, (claim.name, claim.owner, claim.ends, claim.done, claim.note))
