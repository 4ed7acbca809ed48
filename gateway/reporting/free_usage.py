"""Records usage that cost nothing: answers from the cache, shared answers, and refusals.

Requests of the same kind are merged into one entry and written once a second. A crash loses what
is not written yet, which is never money.
"""

from collections.abc import Callable, Sequence

import structlog
from msgspec.structs import replace

from gateway.config.models import quality_label
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Entry, EntryOutcome
from gateway.core.periods import HOUR_SECONDS
from gateway.core.write_behind import WriteBehind
from gateway.quota.store import AccountStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="free_usage")

MAX_WAITING = 10_000
"""Entries held while the store is unavailable; further kinds of request are left out."""

_Kind = tuple[str, str, str, str, str, EntryOutcome, int]
"""Team, line of keys, model, size, quality, outcome and hour."""


class FreeUsage(WriteBehind[Sequence[Entry]], Observer):
    """The buffer in front of `AccountStore.record`.

    `new_id` returns a unique id, `wall` the time.
    """

    def __init__(
        self, store: AccountStore, *, new_id: Callable[[], str], wall: Callable[[], float]
    ) -> None:
        super().__init__("free usage")
        self._store = store
        self._new_id = new_id
        self._wall = wall
        self._waiting: dict[_Kind, Entry] = {}

    def answer_ready(self, record: RequestRecord) -> None:
        """Add a cache hit, or a shared answer of a purchase in flight."""
        request, images, saved = record.request, record.images, record.saved
        if request is None or record.outcome not in ("hit", "collapsed"):
            return
        labels = request.model, request.size, quality_label(request.quality)
        if record.outcome == "hit":
            self._add(record, "cached", labels, requests=1, images_cached=images, saved=saved)
        else:
            amounts = {"images_cached": images, "images_coalesced": images, "saved": saved}
            self._add(record, "coalesced", labels, requests=1, **amounts)

    def request_refused(self, record: RequestRecord) -> None:
        """Add a refusal.

        The record's labels come from closed sets. Refusals cost a client nothing, so a client
        must not be able to invent any number of them.
        """
        self._add(record, "refused", record.labels, requests_refused=1)

    def collect(self) -> Sequence[Entry] | None:
        """The merged entries."""
        entries, self._waiting = list(self._waiting.values()), {}
        return entries or None

    async def write(self, batch: Sequence[Entry]) -> None:
        """Write the entries, all at once or else one by one. Raises StoreUnavailable."""
        try:
            await self._store.record(batch)
        except StoreUnavailable:
            raise
        except Exception as defect:  # one of them must not lose the others
            log.warning("usage entries refused: writing them one by one", exc_info=defect)
            for entry in batch:
                await self._write_alone(entry)

    async def _write_alone(self, entry: Entry) -> None:
        try:
            await self._store.record([entry])
        except StoreUnavailable:
            raise
        except Exception as defect:
            log.exception("usage entry dropped", entry=entry.id, exc_info=defect)

    def _add(
        self,
        record: RequestRecord,
        outcome: EntryOutcome,
        labels: tuple[str, str, str],
        **amounts: int,
    ) -> None:
        """Add the amounts to the entry of this kind of request."""
        caller, now = record.caller, self._wall()
        if caller is None:
            return
        team, key = caller.team.name, caller.key.line
        kind = (team, key, *labels, outcome, int(now // HOUR_SECONDS))
        entry = self._waiting.get(kind)
        if entry is None:
            if len(self._waiting) >= MAX_WAITING:
                return
            model, size, quality = labels
            entry = Entry(
                id=self._new_id(),
                at=now,
                team=team,
                key=key,
                model=model,
                size=size,
                quality=quality,
                outcome=outcome,
                requests=0,
            )
        sums = {name: getattr(entry, name) + amount for name, amount in amounts.items()}
        self._waiting[kind] = replace(entry, **sums)
