"""Records usage that cost nothing: answers from the cache, shared answers, and refusals.

Requests of the same kind are merged into one entry and written once a second. A crash loses the
unwritten rest, which is never money.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from msgspec.structs import replace

from gateway.config.models import quality_label
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Entry, EntryOutcome
from gateway.core.periods import HOUR_SECONDS
from gateway.core.tasks import WriteBehind
from gateway.quota.store import AccountStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="free_usage")

MAX_WAITING = 10_000
"""Entries held while the store is unavailable; further kinds of request are left out."""

_Kind = tuple[str, str, str, str, str, EntryOutcome, int]
"""Team, line of keys, model, size, quality, outcome and hour."""

_Sums = defaultdict[str, int]
"""The sums of one kind of request since the last write, by their names in `Entry`."""


@dataclass(eq=False)
class FreeUsage(WriteBehind[Sequence[Entry]], Observer):
    """The buffer in front of `AccountStore.record`.

    `new_id` returns a unique id, `wall` the time.
    """

    name = "free usage"
    store: AccountStore
    new_id: Callable[[], str]
    wall: Callable[[], float]
    _waiting: dict[_Kind, tuple[Entry, _Sums]] = field(default_factory=dict)

    def answer_ready(self, record: RequestRecord) -> None:
        """Add a cache hit, or a shared answer of a purchase in flight."""
        # Logs and metrics call a shared answer "collapsed", the usage history "coalesced".
        request, shared = record.request, record.outcome == "collapsed"
        if request is None or not (shared or record.outcome == "hit"):
            return
        labels = request.model, request.size, quality_label(request.quality)
        if (sums := self._sums(record, "coalesced" if shared else "cached", labels)) is not None:
            sums["requests"] += 1
            sums["images_cached"] += record.images
            sums["images_coalesced"] += record.images if shared else 0
            sums["saved"] += record.saved

    def request_refused(self, record: RequestRecord) -> None:
        """Add a refusal.

        The record's labels come from closed sets. Refusals cost a client nothing, so a client
        must not be able to invent any number of them.
        """
        if (sums := self._sums(record, "refused", record.labels)) is not None:
            sums["requests_refused"] += 1

    def collect(self) -> Sequence[Entry] | None:
        """The merged entries."""
        waiting, self._waiting = self._waiting, {}
        return [replace(first, **sums) for first, sums in waiting.values()] or None

    async def write(self, batch: Sequence[Entry]) -> None:
        """Write the entries, all at once or else one by one. Raises StoreUnavailable."""
        try:
            await self.store.record(batch)
        except StoreUnavailable:
            raise
        except Exception as defect:
            if len(batch) == 1:
                log.exception("usage entry dropped", entry=batch[0].id, exc_info=defect)
                return
            log.warning("usage entries refused: writing them one by one", exc_info=defect)
            for entry in batch:  # one refused entry must not lose the others
                await self.write([entry])

    def _sums(
        self, record: RequestRecord, outcome: EntryOutcome, labels: tuple[str, str, str]
    ) -> _Sums | None:
        """The sums to add this request to; None if its kind is left out."""
        caller, now = record.caller, self.wall()
        if caller is None:
            return None
        team, key = caller.team.name, caller.key.line
        kind = (team, key, *labels, outcome, int(now // HOUR_SECONDS))
        found = self._waiting.get(kind)
        # Sums that change in place: a new entry for each cache hit would take microseconds.
        if found is None and len(self._waiting) < MAX_WAITING:
            model, size, quality = labels
            first = Entry(
                id=self.new_id(),
                at=now,
                team=team,
                key=key,
                model=model,
                size=size,
                quality=quality,
                outcome=outcome,
                requests=0,
            )
            found = self._waiting[kind] = first, _Sums(int)
        return found and found[1]
