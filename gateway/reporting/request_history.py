"""What became of each request, on its way into the store: recent requests, errors, latency.

It is gathered as requests end and written once a second: nobody waits for it, and what is not
written yet is lost in a crash. It is never money. While the store is away all of it is summed up,
so that its size has a bound however long that lasts.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import structlog

from gateway.config.models import quality_label
from gateway.core.errors import StoreUnavailable
from gateway.core.periods import HOUR_SECONDS
from gateway.core.tasks import Background
from gateway.reporting.request_lines import (
    GOOD,
    OWN_BOUNDS,
    READS,
    SHOWN_DIGITS,
    UPSTREAM_BOUNDS,
    Batch,
    ErrorKind,
    Latency,
    Line,
    Stopwatch,
    TeamErrors,
    place,
)
from gateway.reporting.store import HistoryStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="activity")

FLUSH_SECONDS = 1.0
FORGET_SECONDS = 600.0

LINES_EACH = 10
"""Lines of their own in a second for requests of one key that came to the same; the others share
one. A call to the upstream always has its own."""

LINES_AT_ONCE = 1_000
"""Lines of their own in a second for all together."""

GROUPS_AT_ONCE = 1_000
"""Shared lines in a second. Errors and latency count also what has no line."""

_Group = tuple[str | None, str | None, str, int, str | None, str | None]


class _Shared:
    """The requests of one second that share a line."""

    __slots__ = ("alone", "at", "cost", "id", "images", "own", "requests", "saved", "total")

    def __init__(self, alone: int) -> None:
        self.alone = alone  # how many more have a line of their own
        self.requests = self.images = self.cost = self.saved = 0
        self.total = self.own = self.at = 0.0
        self.id = ""

    def add(self, record: RequestRecord, total: float, own: float, at: float) -> None:
        self.requests += 1
        self.images += record.images
        self.cost += record.cost
        self.saved += record.saved
        self.total += total
        self.own += own
        self.at = at
        self.id = record.id


class Activity(Observer):
    """The buffer before `HistoryStore.write_activity`. `wall` tells the time, `keep` how many
    requests are kept, and `writer` (8 hexadecimal digits) is unlike any other gateway's.
    """

    def __init__(
        self,
        store: HistoryStore,
        *,
        wall: Callable[[], float],
        keep: Callable[[], int],
        writer: str,
    ) -> None:
        self._store = store
        self._wall = wall
        self._keep = keep
        self._writer = writer
        self._lines: list[Line] = []
        self._shared: dict[_Group, _Shared] = {}
        self._errors: dict[_Group, ErrorKind] = {}
        self._own, self._upstream = Stopwatch(OWN_BOUNDS), Stopwatch(UPSTREAM_BOUNDS)
        self._places = 0
        self._batches = 0
        self._untrimmed: float = float("inf")
        self._unwritten: Batch | None = None
        self._writing = asyncio.Lock()
        self._background = Background("activity")

    def start(self) -> None:
        """Begin writing once a second, and forgetting what is old."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)
        self._background.every(FORGET_SECONDS, self.forget, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop, and write what is left if the store can be reached."""
        await self._background.close()
        try:
            await self.flush()
        except StoreUnavailable:
            return

    # -- as requests end ------------------------------------------------------------------------

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Note a request that has been answered, or whose client has left, after `seconds`."""
        if record.outcome in READS:
            return
        if record.left:  # what has come of it by now is noted by `late_purchase_ended`
            record = replace(record, outcome="client_closed", images=0, cost=0, upstream=None)
        own = max(0.0, seconds - record.waited)
        if record.request is not None:
            self._own.add(own)
            if record.upstream is not None:
                self._upstream.add(record.upstream)
        self._note(record, seconds, own)

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """Note what came of a purchase whose client had left, and was noted as such."""
        if record.upstream is not None:
            self._upstream.add(record.upstream)
        seconds = perf_counter() - record.started
        self._note(record, seconds, max(0.0, seconds - record.waited))

    def _note(self, record: RequestRecord, seconds: float, own: float) -> None:
        caller, at = record.caller, self._wall()
        team, key = (None, None) if caller is None else (caller.team.name, caller.key.id)
        group = (team, key, record.outcome, record.status, record.code, record.route)
        if record.outcome not in GOOD:
            self._note_error(record, team, at)
        shared = self._shared.get(group)
        if shared is None:
            shared = self._new_group(group)
        alone = record.upstream is not None or shared.alone
        if alone and len(self._lines) < LINES_AT_ONCE:
            shared.alone = max(0, shared.alone - 1)
            self._lines.append(self._line(record, seconds, own, at))
        else:
            shared.add(record, seconds, own, at)

    def _new_group(self, group: _Group) -> _Shared:
        """Where its requests are put together: nowhere, if there are too many groups already."""
        shared = _Shared(LINES_EACH if group[0] is not None else 0)
        if len(self._shared) < GROUPS_AT_ONCE:
            self._shared[group] = shared
        return shared

    def _note_error(self, record: RequestRecord, team: str | None, at: float) -> None:
        # Key and route are left out: an error's kinds are a team's.
        name = (team, None, record.outcome, record.status, record.code, None)
        kind = ErrorKind(
            outcome=record.outcome,
            code=record.code,
            status=record.status,
            requests=1,
            last_at=at,
            last_id=record.id,
        )
        former = self._errors.get(name)
        self._errors[name] = kind if former is None else former.plus(kind)

    def _line(self, record: RequestRecord, seconds: float, own: float, at: float) -> Line:
        caller, request, fingerprint = record.caller, record.request, record.fingerprint
        return Line(
            place=self._place(at),
            id=record.id,
            team=caller.team.name if caller else None,
            key=caller.key.id if caller else None,
            model=request.model if request else None,
            size=request.size if request else None,
            quality=quality_label(request.quality) if request else None,
            outcome=record.outcome,
            status=record.status,
            code=record.code,
            requests=1,
            images=record.images,
            cost=record.cost,
            saved=record.saved,
            total=seconds,
            own=own,
            upstream=record.upstream,
            fingerprint=fingerprint[:SHOWN_DIGITS] if fingerprint else None,
            route=record.route,
        )

    def _shared_line(self, group: _Group, shared: _Shared) -> Line:
        team, key, outcome, status, code, route = group
        return Line(
            place=self._place(shared.at),
            id=shared.id,
            team=team,
            key=key,
            model=None,
            size=None,
            quality=None,
            outcome=outcome,
            status=status,
            code=code,
            requests=shared.requests,
            images=shared.images,
            cost=shared.cost,
            saved=shared.saved,
            total=shared.total / shared.requests,
            own=shared.own / shared.requests,
            upstream=None,
            fingerprint=None,
            route=route,
        )

    def _place(self, at: float) -> str:
        self._places += 1
        return place(at, self._writer, self._places)

    # -- into the store -------------------------------------------------------------------------

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable, keeping it for the next time."""
        async with self._writing:
            if self._unwritten is not None:
                await self._write(self._unwritten)
            batch = self._unwritten = self._collect()
            if batch is not None:
                await self._write(batch)

    async def forget(self) -> None:
        """Forget what is too old. Raises StoreUnavailable."""
        await self._store.forget(self._wall())

    async def _write(self, batch: Batch) -> None:
        try:
            await self._store.write(batch)
        except StoreUnavailable:
            raise
        except Exception:  # what cannot be written must not keep out all that comes after it
            log.exception("recent requests lost", lines=len(batch.lines))
        self._unwritten = None

    def _collect(self) -> Batch | None:
        """All that came since the last time; None where nothing did."""
        if not (self._shared or self._errors or self._own.count or self._upstream.count):
            return None
        shared, self._shared = self._shared, {}
        lines, self._lines = self._lines, []
        errors, self._errors = self._errors, {}
        lines += [self._shared_line(*item) for item in shared.items() if item[1].requests]
        keep, now = self._keep(), self._wall()
        self._batches += 1
        return Batch(
            writer=self._writer,
            number=self._batches,
            at=now,
            lines=lines if keep else (),
            errors=[TeamErrors(name[0], kind) for name, kind in errors.items()],
            latency=self._latency(int(now // HOUR_SECONDS)),
            keep=self._room(keep, len(lines)),
        )

    def _latency(self, hour: int) -> Latency | None:
        own, upstream = self._own, self._upstream
        if not own.count and not upstream.count:
            return None
        self._own, self._upstream = Stopwatch(OWN_BOUNDS), Stopwatch(UPSTREAM_BOUNDS)
        return Latency(hour, own.times(), upstream.times())

    def _room(self, keep: int, lines: int) -> int | None:
        """How many lines are to stay; None while those above are too few to look for them."""
        self._untrimmed += lines
        if self._untrimmed < keep // 20:
            return None
        self._untrimmed = 0
        return keep
