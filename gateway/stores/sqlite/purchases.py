"""The records of purchases that were charged as unknown, in a table of their own.

They are written in the transaction of the usage entry that they belong to, and deleted with the
sums of its hour.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from sqlite3 import Connection
from typing import Any

import msgspec
from msgspec.structs import asdict

from gateway.core.model import FREE_OUTCOMES, Entry, EntryOutcome
from gateway.quota.purchase import (
    KeptEntry,
    Place,
    Purchase,
    PurchaseFilter,
    RecordState,
    Refunded,
    charged_entry,
)
from gateway.stores.sqlite import usage_sums
from gateway.stores.sqlite.threads import SqlitePart, in_thread

_FIELDS = Purchase.__struct_fields__
# Only names of fields are put into these statements, never a value (S608).
_COLUMNS = ", ".join(_FIELDS)
_PUT = f"""
    INSERT OR REPLACE INTO purchases ({_COLUMNS})
    VALUES ({", ".join(f":{name}" for name in _FIELDS)})
"""
_FIND = f"SELECT {_COLUMNS} FROM purchases WHERE id = ?"
_PAGE = f"""
    SELECT {_COLUMNS} FROM purchases
    WHERE at >= :since AND (at, id) < (:at, :last) AND (:team IS NULL OR team = :team)
    AND (:state IS NULL OR state = :state) AND (:id IS NULL OR :id IN (id, request_id))
    ORDER BY at DESC, id DESC LIMIT :limit
"""
_ALL = f"SELECT {_COLUMNS} FROM purchases ORDER BY at, id"
_IS_UNKNOWN = "SELECT 1 FROM purchases WHERE id = ? AND state = 'unknown'"

_decode_refunded = msgspec.json.Decoder(Refunded).decode


class SqlitePurchases(SqlitePart):
    """The PurchaseStore in the tables of purchases and entries."""

    @in_thread("reader", "purchase")
    def find(self, connection: Connection, id: str) -> Purchase | None:
        row = connection.execute(_FIND, (id,)).fetchone()
        return None if row is None else _purchase(row)

    @in_thread("reports", "purchases")
    def page(
        self,
        connection: Connection,
        wanted: PurchaseFilter,
        state: RecordState | None,
        limit: int,
        before: Place | None = None,
    ) -> list[Purchase]:
        at, last = before or (inf, "")
        bounds = {"since": wanted.since or 0.0, "at": at, "last": last}
        values = {**asdict(wanted), **bounds, "state": state, "limit": limit}
        return [_purchase(row) for row in connection.execute(_PAGE, values)]

    @in_thread("reader", "outcome")
    def outcome(self, connection: Connection, id: str) -> EntryOutcome | None:
        row = connection.execute("SELECT outcome FROM entries WHERE id = ?", (id,)).fetchone()
        return None if row is None else row[0]


# -- in the open transaction ----------------------------------------------------------------------


def write_entries(connection: Connection, entries: Sequence[Entry]) -> bool:
    """Write usage entries, and the records of their purchases.

    Returns False, without any change, where a refund finds no record of an unknown charge.
    """
    # The last entry of a purchase decides whether it has a record.
    records = {
        entry.id: entry.purchase if isinstance(entry, KeptEntry) else None
        for entry in entries
        if entry.outcome not in FREE_OUTCOMES
    }
    kept = [purchase for purchase in records.values() if purchase is not None]
    refunds = [purchase for purchase in kept if purchase.refunded is not None]
    for refund in refunds:
        if connection.execute(_IS_UNKNOWN, (refund.id,)).fetchone() is None:
            return False
    for refund in refunds:
        usage_sums.keep_entry(connection, charged_entry(refund))
    usage_sums.write_entries(connection, entries)
    gone = ((id,) for id, purchase in records.items() if purchase is None)
    connection.executemany("DELETE FROM purchases WHERE id = ?", gone)
    put_purchases(connection, kept)
    return True


def put_purchases(connection: Connection, purchases: Iterable[Purchase]) -> None:
    """Write records; one with the same id is replaced."""
    connection.executemany(_PUT, map(_values, purchases))


def all_purchases(connection: Connection) -> Iterator[Purchase]:
    """Yield all records, the earliest first."""
    return map(_purchase, connection.execute(_ALL))


def _values(purchase: Purchase) -> Mapping[str, Any]:
    refunded = purchase.refunded
    text = None if refunded is None else msgspec.json.encode(refunded).decode()
    return {**asdict(purchase), "refunded": text}


def _purchase(row: Sequence[Any]) -> Purchase:
    fields = dict(zip(_FIELDS, row, strict=True))
    for name in ("in_gateway", "in_key"):
        fields[name] = bool(fields[name])
    text = fields["refunded"]
    fields["refunded"] = None if text is None else _decode_refunded(text)
    return Purchase(**fields)
