"""Which purchases bought a picture: one row for each picture of a purchase."""

from collections.abc import Sequence
from sqlite3 import Connection

from msgspec.structs import asdict

from gateway.reporting.store import PictureBuyer
from gateway.stores.codec import from_values
from gateway.stores.sqlite.threads import SqlitePart, in_thread, transaction

FORGOTTEN_AT_ONCE = 1_000
"""Rows deleted in one transaction, because purchases wait for the same lock."""

_PUT = """
    INSERT OR REPLACE INTO pictures (digest, purchase, request_id, at, team, key, model, cost)
    VALUES (:sha256, :purchase, :request_id, :at, :team, :key, :model, :cost)
"""
_FIND = """
    SELECT purchase, request_id, at, team, key, model, cost FROM pictures
    WHERE digest = ? ORDER BY at DESC, purchase DESC LIMIT ?
"""
_FORGET = """
    DELETE FROM pictures WHERE (digest, purchase) IN (
        SELECT digest, purchase FROM pictures WHERE at < ? LIMIT ?
    )
"""


class SqlitePictures(SqlitePart):
    """The PictureStore in a table."""

    @in_thread("writer", "write_pictures")
    def write(
        self, connection: Connection, records: Sequence[PictureBuyer], seconds: float | None
    ) -> None:
        with transaction(connection):
            connection.executemany(_PUT, map(_row, records))

    @in_thread("reports", "pictures")
    def find(self, connection: Connection, sha256: str, limit: int) -> list[PictureBuyer]:
        rows = connection.execute(_FIND, (_digest(sha256), limit))
        return [from_values(PictureBuyer, (sha256, *row)) for row in rows]

    @in_thread("writer", "forget_pictures")
    def forget(self, connection: Connection, before: float) -> bool:
        with transaction(connection):
            return connection.execute(_FORGET, (before, FORGOTTEN_AT_ONCE)).rowcount > 0


def _row(record: PictureBuyer) -> dict[str, object]:
    return {**asdict(record), "sha256": _digest(record.sha256)}


def _digest(sha256: str) -> bytes:
    """Return the bytes of a digest; of any other text, bytes that no picture has."""
    try:
        return bytes.fromhex(sha256)
    except ValueError:
        return b""
