"""The events of the gateway: the one port through which work is counted, logged and reported.

The parts that do the work (pipeline, ledger, election, HTTP server, caches, stores) report events
and know no listener. Metrics, access log, free usage, request history, alerts, quota gauges and the
memory trimmer are listeners: each overrides the methods of the events that it needs. Spans are the
exception, because they enclose a block: see `gateway.telemetry.tracing`.
"""

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Literal

import structlog

from gateway.core.errors import UpstreamError
from gateway.quota.refusal import Refusal
from gateway.quota.steps import Reserve
from gateway.quota.store import LedgerObserver
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.port import Reply

log = structlog.get_logger(source="observer")

FlightRole = Literal["lead", "follow", "remote"]
"""lead: a purchase begins. follow: a request joins a purchase of this gateway. remote: a flight
waits for another gateway's purchase."""


class Observer(LedgerObserver):
    """Receives all events. Each method does nothing until a subclass overrides it."""

    # -- requests -------------------------------------------------------------------------------

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """A request was answered, or its client left, `seconds` after it began."""

    def request_refused(self, record: RequestRecord) -> None:
        """A request with a valid key was refused before anything was bought for it."""

    def request_unreadable(self, code: str) -> None:
        """The HTTP parser refused a request with this error code."""

    def answer_ready(self, record: RequestRecord) -> None:
        """A request has its answer. `record.outcome` says whether that was a purchase ("miss"),
        a cache hit ("hit") or a shared purchase ("collapsed").
        """

    # -- purchases ------------------------------------------------------------------------------

    def flight(self, role: FlightRole) -> None:
        """A flight was started or joined, or waits for another gateway."""

    def lease_lost(self) -> None:
        """Another gateway took the lease of a purchase that goes on here."""

    def purchase_refused(self, team: str, refusal: Refusal) -> None:
        """A limit refused a purchase of this team."""

    def upstream_call_ended(self, model: str, status: str, seconds: float) -> None:
        """A call to the upstream ended. `status` is its HTTP status, or the code of its failure."""

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """A purchase brought no images: an UpstreamError, or a defect of the gateway."""

    def charged(self, reservation: Reserve, cost: int, *, unknown: bool, swept: bool) -> None:
        """A purchase was charged `cost` micro-dollars.

        `unknown`: its outcome could not be confirmed. `swept`: its lease had run out, so a sweep
        has reported the charge already (see `holds_swept`).
        """

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """A purchase ended after its client had left. `request_ended` came before."""

    # -- cache, store and alerts ----------------------------------------------------------------

    def cache_lookup(self, tier: str, result: str) -> None:
        """A cache tier was asked; `result` is "hit", "miss" or "error"."""

    def cache_eviction(self, tier: str, reason: str) -> None:
        """An entry left a cache tier."""

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """An operation of the store ended, or ("went_back") an account turned out to be old."""

    def alert_ended(self, kind: str, result: str) -> None:
        """A message to a webhook of this kind was "sent", or given up ("failed")."""


NO_OBSERVER = Observer()
"""For parts that run without listeners."""

EVENTS = tuple(
    name for name in (*vars(LedgerObserver), *vars(Observer)) if not name.startswith("_")
)


class Observers(Observer):
    """Passes each event on to all listeners, in the order in which they were added.

    Written out, this would be a method for each event that only loops. It is one loop instead,
    which also skips the listeners that do not override an event: cache hits take microseconds.
    """

    def __init__(self, *listeners: Observer) -> None:
        self._methods: dict[str, list[Callable[..., None]]] = {event: [] for event in EVENTS}
        for event, methods in self._methods.items():
            setattr(self, event, _passing_on(event, methods))
        for listener in listeners:
            self.add(listener)

    def add(self, listener: Observer) -> None:
        """Pass events on to this listener, too, from now on."""
        for event, methods in self._methods.items():
            if getattr(type(listener), event) is not getattr(Observer, event):
                methods.append(getattr(listener, event))


def _passing_on(event: str, methods: list[Callable[..., None]]) -> Callable[..., None]:
    def pass_on(*args: Any, **kwargs: Any) -> None:
        for method in methods:
            try:
                method(*args, **kwargs)
            except Exception as defect:  # a defect in a listener must stop neither work nor money
                log.exception("listener failed", on=event, exc_info=defect)

    return pass_on


async def measured_call(
    call: Awaitable[Reply], model: str, record: RequestRecord, observer: Observer
) -> Reply:
    """Await a call to the upstream, which counts as a wait of this request, and report its end."""
    started, status = perf_counter(), "failed"
    try:
        with record.waiting():
            reply = await call
        status = str(reply.status)
        return reply
    except UpstreamError as error:
        status = error.code
        raise
    finally:
        record.upstream = perf_counter() - started
        observer.upstream_call_ended(model, status, record.upstream)
