"""Records usage that cost nothing: answers from the cache, shared answers, and refusals.

Requests of the same kind are merged into one entry and written once a second. A crash loses what
is not written yet, which is never money.
"""

from collections.abc import Callable, Sequence

import structlog
from msgspec.structs import replace

from gateway.config.models import quality_label
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Caller, Entry, EntryOutcome
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
        caller, request = record.caller, record.request
        if caller is None or request is None or record.outcome not in ("hit", "collapsed"):
            return
        coalesced = record.outcome == "collapsed"
        labels = request.model, request.size, quality_label(request.quality)
        kind, entry = self._entry(caller, labels, "coalesced" if coalesced else "cached")
        self._keep(
            kind,
            replace(
                entry,
                requests=entry.requests + 1,
                images_cached=entry.images_cached + record.images,
                images_coalesced=entry.images_coalesced + (record.images if coalesced else 0),
                saved=entry.saved + record.saved,
            ),
        )

    def request_refused(self, record: RequestRecord) -> None:
        """Add a refusal.

        The record's labels come from closed sets. Refusals cost a client nothing, so a client
        must not be able to invent any number of them.
        """
        if record.caller is not None:
            kind, entry = self._entry(record.caller, record.labels, "refused")
            self._keep(kind, replace(entry, requests_refused=entry.requests_refused + 1))

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

    def _entry(
        self, caller: Caller, labels: tuple[str, str, str], outcome: EntryOutcome
    ) -> tuple[_Kind, Entry]:
        """The entry that requests of this kind are merged into."""
        now = self._wall()
        team, key, hour = caller.team.name, caller.key.line, int(now // HOUR_SECONDS)
        kind = (team, key, *labels, outcome, hour)
        entry = self._waiting.get(kind)
        if entry is None:
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
        return kind, entry

    def _keep(self, kind: _Kind, entry: Entry) -> None:
        if kind in self._waiting or len(self._waiting) < MAX_WAITING:
            self._waiting[kind] = entry
