"""The records of purchases that were charged as unknown: a hash, and a sorted set of their times.

`swap.lua` writes and removes them together with the usage entries that they belong to.
"""

from collections.abc import Sequence

import msgspec

from gateway.core.model import FREE_OUTCOMES, Entry, EntryOutcome
from gateway.core.tasks import in_turns
from gateway.quota.purchase import (
    KeptEntry,
    Place,
    Purchase,
    PurchaseFilter,
    RecordState,
    charged_entry,
)
from gateway.stores.redis import names
from gateway.stores.redis.link import RedisPart, operation
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_sums import KEEP_SECONDS, kept_entry, kept_text, now_of
from gateway.stores.sums import FIELDS, hour_of

RECORDS_AT_ONCE = 500
"""Records read in one call, to bound how long the server is busy."""

_UNKNOWN, _REFUNDED = b"u", b"r"

_OUTCOME = FIELDS.index("outcome")

_decode = msgspec.json.Decoder(Purchase).decode


class RedisPurchases(RedisPart):
    """The PurchaseStore in the records, and in the purchases of each hour."""

    @operation("purchase")
    async def find(self, id: str) -> Purchase | None:
        text = await self.link.read(names.UNKNOWN, "HGET", id)
        return None if text is None else purchase_of_text(text)

    @operation("purchases")
    async def page(
        self,
        wanted: PurchaseFilter,
        state: RecordState | None,
        limit: int,
        before: Place | None = None,
    ) -> list[Purchase]:
        bounds = ("+inf" if before is None else before[0], wanted.since or 0.0)
        found: dict[str, Purchase] = {}
        read, left = 0, True
        while left and len(found) < limit:
            page = ("LIMIT", read, RECORDS_AT_ONCE)
            ids = await self.link.read(names.UNKNOWN_AT, "ZREVRANGEBYSCORE", *bounds, *page)
            texts = await self.link.read(names.UNKNOWN, "HMGET", *ids) if ids else []
            async for text in in_turns(texts):
                purchase = None if text is None else purchase_of_text(text)
                if (
                    purchase is not None
                    and (before is None or purchase.place < before)
                    and state in (None, purchase.state)
                    and wanted.matches(purchase)
                ):
                    found[purchase.id] = purchase
            read, left = read + len(ids), len(ids) == RECORDS_AT_ONCE
        return [*found.values()][:limit]

    @operation("outcome")
    async def outcome(self, id: str) -> EntryOutcome | None:
        hour, kept = hour_of(await now_of(self.link)), hour_of(max(KEEP_SECONDS))
        keys = [names.purchases(each) for each in range(hour - kept - 1, hour + 2)]
        found = await self.link.call("written", keys, *[id] * len(keys))
        for key, there in zip(keys, found, strict=True):
            if there and (text := await self.link.read(key, "HGET", id)) is not None:
                outcome: EntryOutcome = kept_entry(text)[0][_OUTCOME]
                return outcome
        return None


def purchase_arguments(entries: Sequence[Entry], others: Sequence[Purchase] = ()) -> list[Argument]:
    """Return the arguments of `swap.lua` for the records of these entries, and for others."""
    # The last entry of a purchase decides whether it has a record.
    records = {
        entry.id: entry.purchase if isinstance(entry, KeptEntry) else None
        for entry in entries
        if entry.outcome not in FREE_OUTCOMES
    }
    kept = [purchase for purchase in records.values() if purchase is not None]
    arguments: list[Argument] = [len(kept) + len(others)]
    for purchase in kept:
        replaced = b"" if purchase.refunded is None else kept_text(charged_entry(purchase))
        arguments += (*_parts(purchase), replaced)
    for purchase in others:
        arguments += (*_parts(purchase), b"")
    return arguments


def purchase_of_text(text: bytes) -> Purchase:
    """Return the purchase of a record in the store."""
    return _decode(text[1:])


def _parts(purchase: Purchase) -> tuple[Argument, ...]:
    state = _UNKNOWN if purchase.refunded is None else _REFUNDED
    return purchase.id, purchase.at, state + msgspec.json.encode(purchase)
