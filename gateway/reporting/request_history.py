"""Collects finished requests for the request history: recent requests, errors and latency.

Requests are collected as they end and written once a second. A crash loses the unwritten rest,
which is never money. While the store is unavailable requests are summed up, so the memory
they take is bounded however long that lasts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.config.live import CurrentSettings
from gateway.config.models import quality_label
from gateway.core.periods import HOUR_SECONDS
from gateway.core.tasks import WriteBehind
from gateway.reporting.request_lines import (
    READS,
    SHOWN_DIGITS,
    SUCCESSES,
    ErrorKind,
    HistoryBatch,
    HourLatency,
    RequestLine,
    TeamErrors,
    make_place,
)
from gateway.reporting.store import HistoryStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

LINES_EACH = 10
"""Own lines in a batch for requests of one key with the same result; further ones share a line.
Requests that called the upstream always have their own."""

LINES_AT_ONCE = 1_000
"""Own lines in a batch, for all keys together."""

GROUPS_AT_ONCE = 1_000
"""Shared lines in a batch. Errors and latency also count requests without a line."""

_GROUP_FIELDS = ("team", "key", "outcome", "status", "code", "route")
"""The fields in which requests must agree to share a line."""

_Group = tuple[str | None, str | None, str, int, str | None, str | None]
"""The values of these fields."""


@dataclass(slots=True)
class _SharedLine:
    """Sums of the requests in one group that have no line of their own."""

    own_lines_left: int
    requests: int = 0
    images: int = 0
    cost: int = 0
    saved: int = 0
    total: float = 0.0
    own: float = 0.0
    at: float = 0.0
    id: str = ""

    def add(self, record: RequestRecord, total: float, own: float, at: float) -> None:
        self.requests += 1
        self.images += record.images
        self.cost += record.cost
        self.saved += record.saved
        self.total += total
        self.own += own
        self.at = at
        self.id = record.id


@dataclass(eq=False)
class RequestHistory(WriteBehind[HistoryBatch], Observer):
    """The buffer in front of `HistoryStore.write`.

    `writer` (8 hexadecimal digits) must differ between gateways of one store. `wall` returns the
    time.
    """

    name = "request history"
    store: HistoryStore
    settings: CurrentSettings
    wall: Callable[[], float]
    writer: str
    _lines: list[RequestLine] = field(default_factory=list)
    _shared: dict[_Group, _SharedLine] = field(default_factory=dict)
    _errors: dict[_Group, ErrorKind] = field(default_factory=dict)
    _latency: HourLatency = field(default_factory=HourLatency)
    _places: int = 0
    _batches: int = 0
    _lines_since_trim: float = float("inf")  # so that the first batch trims

    # -- as requests end ------------------------------------------------------------------------

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Add a request that was answered, or whose client disconnected, after `seconds`."""
        if record.outcome in READS:
            return
        if record.left:  # `late_purchase_ended` adds the result of its purchase
            record = replace(record, outcome="client_closed", images=0, cost=0, upstream=None)
        own = record.own_seconds(seconds)
        if record.request is not None:
            self._latency.own.add(own)
            if record.upstream is not None:
                self._latency.upstream.add(record.upstream)
        self._add(record, seconds, own)

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """Add the result of a purchase whose client disconnected before."""
        if record.upstream is not None:
            self._latency.upstream.add(record.upstream)
        seconds = record.clock() - record.started
        self._add(record, seconds, record.own_seconds(seconds))

    def _add(self, record: RequestRecord, seconds: float, own: float) -> None:
        caller, at = record.caller, self.wall()
        team, key = (None, None) if caller is None else (caller.team.name, caller.key.id)
        group = (team, key, record.outcome, record.status, record.code, record.route)
        if record.outcome not in SUCCESSES:
            self._add_error(record, team, at)
        shared = self._shared.get(group)
        if shared is None:
            # Anybody can send requests without a valid key: they always share lines.
            shared = _SharedLine(LINES_EACH if team is not None else 0)
            if len(self._shared) < GROUPS_AT_ONCE:  # else it is never written
                self._shared[group] = shared
        has_own_line = record.upstream is not None or shared.own_lines_left > 0
        if has_own_line and len(self._lines) < LINES_AT_ONCE:
            shared.own_lines_left = max(0, shared.own_lines_left - 1)
            self._lines.append(self._line(group, record, seconds, own, at))
        else:
            shared.add(record, seconds, own, at)

    def _add_error(self, record: RequestRecord, team: str | None, at: float) -> None:
        # Errors are counted per team: key and route would only split them.
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

    def _line(
        self, group: _Group, record: RequestRecord, seconds: float, own: float, at: float
    ) -> RequestLine:
        request, fingerprint = record.request, record.fingerprint
        return RequestLine(
            **_fields_of(group),
            place=self._place(at),
            id=record.id,
            model=request.model if request else None,
            size=request.size if request else None,
            quality=quality_label(request.quality) if request else None,
            requests=1,
            images=record.images,
            cost=record.cost,
            saved=record.saved,
            total=seconds,
            own=own,
            upstream=record.upstream,
            fingerprint=fingerprint[:SHOWN_DIGITS] if fingerprint else None,
            upstream_status=record.upstream_status,
            reason=record.reason,
            refused_by=record.refused_by,
        )

    def _shared_line(self, group: _Group, shared: _SharedLine) -> RequestLine:
        return RequestLine(
            **_fields_of(group),
            place=self._place(shared.at),
            id=shared.id,
            model=None,
            size=None,
            quality=None,
            requests=shared.requests,
            images=shared.images,
            cost=shared.cost,
            saved=shared.saved,
            total=shared.total / shared.requests,
            own=shared.own / shared.requests,
            upstream=None,
            fingerprint=None,
        )

    def _place(self, at: float) -> str:
        self._places += 1
        return make_place(at, self.writer, self._places)

    # -- into the store -------------------------------------------------------------------------

    async def write(self, batch: HistoryBatch) -> None:
        """Write the batch; the store adds a batch number of this writer once."""
        await self.store.write(batch)

    def collect(self) -> HistoryBatch | None:
        """The requests that are not written yet."""
        latency = self._latency
        has_latency = latency.own.count > 0 or latency.upstream.count > 0
        if not (self._shared or self._errors or has_latency):
            return None
        self._latency = HourLatency()
        shared, self._shared = self._shared, {}
        lines, self._lines = self._lines, []
        errors, self._errors = self._errors, {}
        lines += [self._shared_line(*item) for item in shared.items() if item[1].requests]
        keep, now = self.settings().activity.keep_requests, self.wall()
        latency.hour = int(now // HOUR_SECONDS)
        self._batches += 1
        return HistoryBatch(
            writer=self.writer,
            number=self._batches,
            at=now,
            lines=lines if keep else (),
            errors=[TeamErrors(name[0], kind) for name, kind in errors.items()],
            latency=latency if has_latency else None,
            keep=self._trim_to(keep, len(lines)),
        )

    def _trim_to(self, keep: int, lines: int) -> int | None:
        """How many lines the store keeps; None while too few are new to make a trim worthwhile."""
        self._lines_since_trim += lines
        if self._lines_since_trim < keep // 20:
            return None
        self._lines_since_trim = 0
        return keep


def _fields_of(group: _Group) -> dict[str, Any]:
    return dict(zip(_GROUP_FIELDS, group, strict=True))
