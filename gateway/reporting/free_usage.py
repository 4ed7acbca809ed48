"""What cost nothing, on its way into the usage history: answers given for nothing, and refusals.

They are merged and written once a second: a hit is answered in microseconds and must not wait for
a disk. What is not written yet is lost in a crash, but it is never money.
"""

import asyncio
from collections.abc import Callable

import structlog
from msgspec.structs import replace

from gateway.config.models import quality_label
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Caller, Entry, EntryOutcome, ImageRequest
from gateway.core.tasks import Background
from gateway.quota.store import AccountStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="hits")

FLUSH_SECONDS = 1.0

MAX_WAITING = 10_000
"""Entries kept while the store is away; more are dropped."""

_Group = tuple[str, str, str, str, str, EntryOutcome]


class Hits(Observer):
    """The buffer before `AccountStore.record`."""

    def __init__(
        self, store: AccountStore, *, new_id: Callable[[], str], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._wall = wall
        self._new_id = new_id
        self._waiting: dict[_Group, Entry] = {}
        self._unwritten: list[Entry] = []
        self._writing = asyncio.Lock()
        self._background = Background("hits")

    def start(self) -> None:
        """Begin writing once a second."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop, and write what is left if the store can be reached."""
        await self._background.close()
        try:
            await self.flush()
        except StoreUnavailable:
            return

    def answer_ready(self, record: RequestRecord) -> None:
        """Note a cache hit or a shared answer."""
        caller, request = record.caller, record.request
        if caller is None or request is None or record.outcome not in ("hit", "collapsed"):
            return
        coalesced = record.outcome == "collapsed"
        now, images, saved = self._wall(), record.images, record.saved
        self.add(caller, request, images, saved, now, coalesced=coalesced)

    def request_refused(self, record: RequestRecord) -> None:
        """Note a refusal."""
        if record.caller:
            self.refuse(record.caller, record.labels, self._wall())

    def add(
        self,
        caller: Caller,
        request: ImageRequest,
        images: int,
        saved: int,
        now: float,
        *,
        coalesced: bool = False,
    ) -> None:
        """Note that `caller` was given `images` for nothing at `now`, which saved `saved`
        micro-dollars: from the cache, or `coalesced` with a purchase under way.
        """
        outcome: EntryOutcome = "coalesced" if coalesced else "cached"
        labels = request.model, request.size, quality_label(request.quality)
        group, entry = self._entry(caller, labels, outcome, now)
        self._waiting[group] = replace(
            entry,
            requests=entry.requests + 1,
            images_cached=entry.images_cached + images,
            images_coalesced=entry.images_coalesced + (images if coalesced else 0),
            saved=entry.saved + saved,
        )

    def refuse(self, caller: Caller, labels: tuple[str, str, str], now: float) -> None:
        """Note that a request of `caller` was refused at `now`, before anything was bought.

        `labels` are model, size and quality, from closed sets: refusals cost a client nothing, so
        that it must not be able to make up any number of them.
        """
        group, entry = self._entry(caller, labels, "refused", now)
        self._waiting[group] = replace(entry, requests_refused=entry.requests_refused + 1)

    def _entry(
        self, caller: Caller, labels: tuple[str, str, str], outcome: EntryOutcome, now: float
    ) -> tuple[_Group, Entry]:
        """What waits to be written of this kind; one without any requests, at first."""
        group = (caller.team.name, caller.key.line, *labels, outcome)
        entry = self._waiting.get(group)
        if entry is None:
            team, key, model, size, quality, _ = group
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
        return group, entry

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable, keeping it for the next time."""
        async with self._writing:
            # A new list each time: a store that is slow may still be reading the last one.
            self._unwritten = [*self._unwritten, *self._waiting.values()][:MAX_WAITING]
            self._waiting = {}
            if self._unwritten:
                await self._write()

    async def _write(self) -> None:
        try:
            await self._store.record(self._unwritten)
        except StoreUnavailable:
            raise
        except Exception as defect:  # one of them must not keep the others for ever
            log.warning("usage entries refused: writing them one by one", exc_info=defect)
            await self._write_one_by_one()
        self._unwritten = []

    async def _write_one_by_one(self) -> None:
        while self._unwritten:
            entry = self._unwritten[0]
            try:
                await self._store.record([entry])
            except StoreUnavailable:
                raise
            except Exception as defect:
                log.exception("usage entry dropped", entry=entry.id, exc_info=defect)
            self._unwritten = self._unwritten[1:]
