"""The events of the gateway: the one port through which work is counted, logged and reported.

The parts that do the work (pipeline, ledger, election, HTTP server, caches, stores) report events
and know no listener. Metrics, access log, free usage, request history, alerts, quota gauges and the
memory trimmer are listeners: each overrides the methods of the events that it needs. Spans are the
exception, because they enclose a block: see `gateway.telemetry.tracing`.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog

from gateway.core.upstream_errors import UpstreamError
from gateway.quota.refusal import Refusal
from gateway.quota.steps import Reserve
from gateway.quota.store import LedgerObserver
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.port import Reply

log = structlog.get_logger(source="observer")

FlightRole = Literal["lead", "follow", "remote"]
"""lead: a purchase begins. follow: a request joins a purchase of this gateway. remote: a flight
waits for another gateway's purchase."""

ConnectionRefusal = Literal["full", "address", "files"]
"""full: the port has its maximum of connections. address: the client's address has its maximum.
files: the process is out of file descriptors."""

ImageFetch = Literal[
    "fetched", "url", "address", "unreachable", "status", "size", "timeout", "cut", "type"
]
"""How the fetch of a picture ended. url: not a URL that may be fetched. address: not a public one.
status: not 200. size: too large. cut: the connection was lost. type: not a PNG, JPEG or WebP."""

TokenWay = Literal["bearer", "sign_in"]
"""How an admin token came: in an Authorization header, or from the dashboard's sign-in."""

NotKeptReason = Literal[
    "bucket_away",
    "bucket_missing",
    "busy",
    "disk_full",
    "failed",
    "folder_missing",
    "no_picture",
    "no_room",
    "not_permitted",
    "too_large",
]
"""Why a picture was not kept. `bucket_away`: the bucket gives no answer, or an error.
`no_picture`: the bytes are no PNG, JPEG or WebP; `busy`: too much was waiting for the disk;
`too_large`: it alone is above [images] max_bytes; `no_room`: all files within that limit were used
in the last minute."""


class Observer(LedgerObserver):
    """Receives all events. Each method does nothing until a subclass overrides it."""

    # -- requests -------------------------------------------------------------------------------

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """A request was answered, or its client left, `seconds` after it began."""

    def request_refused(self, record: RequestRecord) -> None:
        """A request with a valid key was refused before anything was bought for it."""

    def request_unreadable(self, code: str) -> None:
        """The HTTP parser refused a request with this error code."""

    def connection_refused(self, reason: ConnectionRefusal) -> None:
        """A port refused a connection."""

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

    def image_fetch_ended(self, result: ImageFetch) -> None:
        """A picture was fetched from the upstream's URL, or could not be."""

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """A purchase brought no images: an UpstreamError, or a defect of the gateway."""

    def charged(self, reservation: Reserve, cost: int, *, unknown: bool, swept: bool) -> None:
        """A purchase was charged `cost` micro-dollars.

        `unknown`: its outcome could not be confirmed. `swept`: its lease had run out, so a sweep
        has reported the charge already (see `holds_swept`).
        """

    def excess_delivered(self, record: RequestRecord) -> None:
        """The upstream delivered more images than `record.request` asks for: all are charged."""

    def usage_fell_back(self, record: RequestRecord) -> None:
        """Tokens are billed, but the answer did not say how many: the price table was used."""

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """A purchase ended after its client had left. `request_ended` came before."""

    # -- cache, store, alerts and the admin port ------------------------------------------------

    def cache_lookup(self, tier: str, result: str) -> None:
        """A cache tier was asked; `result` is "hit", "miss" or "error"."""

    def cache_eviction(self, tier: str, reason: str) -> None:
        """An entry left a cache tier."""

    def pictures_bought(
        self, reservation: Reserve, request_id: str, cost: int, body: bytes
    ) -> None:
        """A purchase that cost so many micro-dollars brought an answer with pictures.

        `body` is the answer as clients get it. Listeners must not look into it at once: that takes
        milliseconds.
        """

    def picture_not_kept(self, reason: NotKeptReason) -> None:
        """A picture, or the answer that it belongs to, could not be kept on the disk."""

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """An operation of the store ended, or ("went_back") an account turned out to be old."""

    def alert_ended(self, kind: str, result: str) -> None:
        """A message to a webhook of this kind was "sent", or given up ("failed")."""

    def admin_token_wrong(self, way: TokenWay) -> None:
        """A wrong admin token was sent."""


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
    started, status = record.clock(), "failed"
    try:
        with record.waiting():
            reply = await call
        status = str(reply.status)
        return reply
    except UpstreamError as error:
        status = error.code
        raise
    finally:
        record.upstream = record.clock() - started
        observer.upstream_call_ended(model, status, record.upstream)
