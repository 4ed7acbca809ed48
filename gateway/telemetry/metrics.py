"""The gateway's metrics, under the names that users' dashboards and alerts rely on.

Labels come only from closed sets or the list of teams: a client's text never becomes a label.
No histogram has a team label, because collecting many of those blocks the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, ProcessCollector

from gateway.core.model import Entry, Limits, Team
from gateway.core.upstream_errors import UpstreamAuth
from gateway.quota.limits import set_limits
from gateway.quota.refusal import Refusal
from gateway.quota.steps import Reserve
from gateway.telemetry.instruments import Instruments
from gateway.telemetry.observer import (
    ConnectionRefusal,
    FlightRole,
    ImageFetch,
    NotKeptReason,
    Observer,
    TokenWay,
)
from gateway.telemetry.request_record import RequestRecord

HELP = {
    "ready": "1 while /readyz answers 200, else 0.",
    "requests": "Requests by outcome.",
    "request_duration_seconds": "From the request's head to its answer.",
    "overhead_seconds": "A request's duration without waits for the client and the upstream.",
    "in_flight_requests": "Requests in progress.",
    "in_flight_limit": "Maximum of requests, and of purchases, in progress.",
    "connections": "Open connections of the public port.",
    "connections_limit": "Maximum of open connections of the public port.",
    "connections_refused": "Connections refused at the maximum (full), at the maximum of an "
    "address (address), or without a free file descriptor (files).",
    "upstream_requests": "Calls to the upstream, by HTTP status or by failure.",
    "upstream_duration_seconds": "Time from a call to the upstream to its whole answer or failure.",
    "upstream_key_refusals": "Purchases in a row that failed because the upstream refused the "
    "gateway's key.",
    "flights": "Purchases begun (lead), requests that joined one of this gateway (follow), "
    "and flights that waited for another gateway's (remote).",
    "flights_open": "Purchases in progress here, also those whose clients have left.",
    "lease_losses": "Purchase leases that another gateway took over.",
    "quota_refusals": "Purchases refused, by the limit that was reached and its owner: the "
    "team, one of its keys, or (team empty) the gateway.",
    "images": "Images delivered, by source.",
    "cost_usd": "Money charged.",
    "image_fetches": "Pictures fetched from the upstream's URLs, or why they were not.",
    "saved_usd": "Money that cache hits and shared answers saved.",
    "unknown_charges": "Unknown charges: the call failed (call), or its gateway died (swept).",
    "excess_images": "Images delivered above the number that was asked for. They are charged.",
    "token_usage_fallbacks": "Purchases billed by the price table although tokens are billed: the "
    "answer had no sound usage.",
    "settlements_above_hold": "Settlements above the cost of their reservation.",
    "lost_purchases": "Settlements of purchases that a restored store had lost.",
    "alerts": "Messages to webhooks, by format and result.",
    "wrong_admin_tokens": "Wrong admin tokens, in a header (bearer) or at a sign-in (sign_in).",
    "cache_lookups": "Cache look-ups.",
    "cache_evictions": "Entries that left the cache.",
    "cache_bytes": "Bytes in the cache.",
    "cache_limit_bytes": "Maximum of bytes in the cache.",
    "cache_entries": "Entries in the cache.",
    "pictures_not_kept": "Pictures and answers that were not kept on the disk or in the bucket, by "
    "reason.",
    "store_operation_seconds": "Time of the store's operations.",
    "store_errors": "Failed store operations.",
    "store_setting_safe": "Settings of the store's server: 1 keeps purchases, 0 may lose them, -1 "
    "unknown.",
    "event_loop_lag_seconds": "How late the event loop runs a callback that is due.",
    "log_lines_dropped": "Log lines that were dropped because nobody read them.",
}
"""The help texts of all metrics but the quota gauges and the process's own."""

ACCOUNT = "default"
"""The upstream account's label: there is one account."""

TEAM_OUTCOMES = (
    *("miss", "hit", "collapsed", "insufficient_quota", "rate_limited", "store_unavailable"),
    *("upstream_account_exhausted", "upstream_auth", "upstream_cut", "upstream_failed"),
    *("upstream_refused", "upstream_timeout", "upstream_unknown", "upstream_unreachable"),
)
"""The outcomes that each team starts with: rates and ratios are made of them."""

OUTCOMES = (
    *TEAM_OUTCOMES,
    *("accepted", "client_closed", "draining", "files", "forbidden", "internal_error"),
    *("invalid_request", "models", "not_cached", "not_found", "overloaded", "polled", "preflight"),
    *("pictures_unavailable", "quota", "repeated_unknown", "result_expired", "unauthenticated"),
    "usage",
)
"""All outcomes: of answers, of `gateway.core.errors`, and of clients that left."""

UNREADABLE = ("headers_too_large", "invalid_http")
"""The outcomes of requests that are not HTTP. They are only counted: nothing else is known."""

OPERATIONS = (
    *("load", "swap", "probe", "written", "record", "record_use", "write_activity", "due"),
    *("changes", "keep_alive", "alive", "forget_operations"),
)
"""The store's operations that serving needs."""

LEASE_OPERATIONS = ("take_lease", "renew_leases", "end_leases", "hand_over", "handed_over")
"""The further operations that serving needs if several gateways share the store."""

CALL_ENDS = (
    *("200", "400", "401", "403", "404", "408", "429", "500", "502", "503", "504"),
    *("upstream_cut", "upstream_timeout", "upstream_unreachable", "upstream_unknown"),
)
"""The usual ends of calls to the upstream. Other statuses are counted from their first one on."""

EXEMPLAR_CHARS = 128 - len("request_id")
"""The longest request id that is attached to a duration: OpenMetrics allows no more."""

EXEMPLAR_SECONDS = 0.025
"""Durations from here on have the request's id attached. For cache hits it would cost some 5 µs,
and nobody looks for a request that was quick."""

_LONG = (
    *(0.005, 0.025, 0.1, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 320),
)
_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5)


class Metrics(Observer):
    """Counts the events in instruments of one registry.

    Money comes in as micro-dollars and is exported as dollars. `dropped_lines` returns how many log
    lines were dropped.
    """

    def __init__(self, dropped_lines: Callable[[], int] = lambda: 0) -> None:
        self.registry = CollectorRegistry()
        self._started: dict[str, tuple[Team, tuple[str, ...]]] = {}
        self._make_instruments(Instruments(self.registry, HELP), dropped_lines)
        ProcessCollector(namespace="gateway", registry=self.registry)

    def _make_instruments(self, make: Instruments, dropped_lines: Callable[[], int]) -> None:
        self.ready = make.gauge("ready")
        # requests
        self.requests = make.counter("requests", team=[""], outcome=UNREADABLE)
        self.duration = make.histogram("request_duration_seconds", _LONG, outcome=OUTCOMES)
        self.overhead = make.plain_histogram("overhead_seconds", _QUICK)
        self.in_flight = make.gauge("in_flight_requests")
        self.in_flight_limit = make.gauge("in_flight_limit")
        self.connections = make.gauge("connections")
        self.connections_limit = make.gauge("connections_limit")
        self.connections_refused = make.counter(
            "connections_refused", reason=get_args(ConnectionRefusal)
        )
        # purchases
        self.upstream_requests = make.counter(
            "upstream_requests", account=[ACCOUNT], status=CALL_ENDS
        )
        self.upstream_duration = make.histogram("upstream_duration_seconds", _LONG, model=())
        self.upstream_key_refusals = make.gauge("upstream_key_refusals")
        self.flights = make.counter("flights", role=("lead", "follow", "remote"))
        self.flights_open = make.gauge("flights_open")
        self.lease_losses = make.plain_counter("lease_losses")
        self.refusals = make.counter("quota_refusals", team=(), limit=(), whose=())
        # images and money
        self.images = make.counter("images", team=(), model=(), size=(), quality=(), source=())
        self.image_fetches = make.counter("image_fetches", result=get_args(ImageFetch))
        self.cost = make.money("cost_usd", "team", "model")
        self.saved = make.money("saved_usd", "team")
        self.unknown_charges = make.counter("unknown_charges", cause=("call", "swept"))
        self.excess_images = make.counter("excess_images", team=())
        self.usage_fallbacks = make.plain_counter("token_usage_fallbacks")
        self.above_hold = make.plain_counter("settlements_above_hold")
        self.lost_purchases = make.plain_counter("lost_purchases")
        # cache
        self.lookups = make.counter("cache_lookups", tier=["memory"], result=("hit", "miss"))
        self.evictions = make.counter(
            "cache_evictions", tier=["memory"], reason=("expired", "replaced", "size")
        )
        self.cache_bytes = make.gauge("cache_bytes", "tier")
        self.cache_limit = make.gauge("cache_limit_bytes", "tier")
        self.cache_entries = make.gauge("cache_entries", "tier")
        self.pictures_not_kept = make.counter("pictures_not_kept", reason=get_args(NotKeptReason))
        # store, alerts, the admin port and the process
        self.store_seconds = make.histogram("store_operation_seconds", _QUICK, operation=OPERATIONS)
        self.store_errors = make.counter("store_errors", operation=(*OPERATIONS, "went_back"))
        self.store_setting_safe = make.gauge("store_setting_safe", "setting")
        self.alerts = make.counter("alerts", kind=("json", "slack"), result=("sent", "failed"))
        self.wrong_tokens = make.counter("wrong_admin_tokens", way=("bearer", "sign_in"))
        self.loop_lag = make.plain_histogram("event_loop_lag_seconds", _QUICK)
        make.counter_function("log_lines_dropped", dropped_lines)

    # -- series that depend on the configuration ------------------------------------------------

    def begin_redis_at_zero(self) -> None:
        """Start the series of the Redis cache."""
        for result in ("hit", "miss", "error"):
            self.lookups.begin("redis", result)

    def begin_disk_at_zero(self) -> None:
        """Start the series of the cache on the disk."""
        for result in ("hit", "miss"):
            self.lookups.begin("disk", result)
        for reason in ("damaged", "expired", "size"):
            self.evictions.begin("disk", reason)

    def begin_leases_at_zero(self) -> None:
        """Start the series of leases, if several gateways share the store."""
        for operation in LEASE_OPERATIONS:
            self.store_seconds.begin(operation)
            self.store_errors.begin(operation)

    def begin_teams_at_zero(
        self, teams: Mapping[str, Team], gateway: Limits, models: Iterable[str]
    ) -> None:
        """Start the series of each team, and of the gateway's limits.

        A further call does only the work for new or changed teams and models.
        """
        models = tuple(models)
        for name, team in teams.items():
            if self._started.get(name) != (team, models):
                self._begin_team_at_zero(team, models)
                self._started[name] = team, models
        for kind in set_limits(gateway):
            self.refusals.begin("", kind.name, "gateway")

    def _begin_team_at_zero(self, team: Team, models: Iterable[str]) -> None:
        for model in models:
            self.cost.add((team.name, model), 0)
        self.saved.add((team.name,), 0)
        self.excess_images.begin(team.name)
        for outcome in TEAM_OUTCOMES:
            self.requests.begin(team.name, outcome)
        for kind in set_limits(team.limits):
            self.refusals.begin(team.name, kind.name, "team")

    # -- events: see `gateway.telemetry.observer` -----------------------------------------------

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Count the request, and its duration with and without its waits."""
        team = record.caller.team.name if record.caller else ""
        self.requests[team, record.outcome].inc()
        has_exemplar = seconds >= EXEMPLAR_SECONDS and len(record.id) <= EXEMPLAR_CHARS
        exemplar = {"request_id": record.id} if has_exemplar else None
        self.duration[record.outcome,].observe(seconds, exemplar)
        self.overhead.observe(record.own_seconds(seconds))

    def request_unreadable(self, code: str) -> None:
        """Count the request; `code` is one of `UNREADABLE`."""
        self.requests["", code].inc()

    def connection_refused(self, reason: ConnectionRefusal) -> None:
        """Count the connection."""
        self.connections_refused[reason,].inc()

    def answer_ready(self, record: RequestRecord) -> None:
        """Count the images, and the savings of those that were not bought for this request."""
        team = record.caller.team.name if record.caller else ""
        source = "upstream" if record.outcome == "miss" else "cache"
        self.images[team, *record.labels, source].inc(record.images)
        if source == "cache":
            self.saved.add((team,), record.saved)

    def flight(self, role: FlightRole) -> None:
        """Count the flight."""
        self.flights[role,].inc()

    def lease_lost(self) -> None:
        """Count the lease."""
        self.lease_losses.inc()

    def purchase_refused(self, team: str, refusal: Refusal) -> None:
        """Count the refusal. One by a limit of the gateway has no team."""
        scope = refusal.scope
        self.refusals["" if scope == "gateway" else team, refusal.limit, scope].inc()

    def upstream_call_ended(self, model: str, status: str, seconds: float) -> None:
        """Count the call and its duration."""
        self.upstream_requests[ACCOUNT, status].inc()
        self.upstream_duration[model,].observe(seconds)

    def image_fetch_ended(self, result: ImageFetch) -> None:
        """Count the fetch."""
        self.image_fetches[result,].inc()

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """Count the refusal, if it concerns the gateway's key."""
        if isinstance(failure, UpstreamAuth):
            self.upstream_key_refusals.inc()

    def charged(self, reservation: Reserve, cost: int, *, unknown: bool, swept: bool) -> None:
        """Count the charge, unless a sweep has counted it already."""
        if unknown:
            self.unknown_charges["call",].inc()
        else:
            self.upstream_key_refusals.set(0)
        if swept:
            return
        self.cost.add((reservation.team, reservation.model), cost)
        if cost > reservation.cost:
            self.above_hold.inc()

    def excess_delivered(self, record: RequestRecord) -> None:
        """Count the images above the number that was asked for."""
        if record.caller and record.request:
            self.excess_images[record.caller.team.name,].inc(record.images - record.request.n)

    def usage_fell_back(self, record: RequestRecord) -> None:
        """Count the purchase."""
        self.usage_fallbacks.inc()

    def holds_swept(self, entries: Sequence[Entry]) -> None:
        """Count the charges."""
        self.unknown_charges["swept",].inc(len(entries))
        for entry in entries:
            self.cost.add((entry.team, entry.model), entry.cost)

    def lost_purchase_settled(self) -> None:
        """Count the purchase."""
        self.lost_purchases.inc()

    def cache_lookup(self, tier: str, result: str) -> None:
        """Count the look-up."""
        self.lookups[tier, result].inc()

    def cache_eviction(self, tier: str, reason: str) -> None:
        """Count the entry."""
        self.evictions[tier, reason].inc()

    def picture_not_kept(self, reason: NotKeptReason) -> None:
        """Count the picture."""
        self.pictures_not_kept[reason,].inc()

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """Count the operation, and its failure."""
        self.store_seconds[operation,].observe(seconds)
        self.store_errors.begin(operation)  # so that the first failure is a rise from zero
        if not ok:
            self.store_errors[operation,].inc()

    def alert_ended(self, kind: str, result: str) -> None:
        """Count the message."""
        self.alerts[kind, result].inc()

    def admin_token_wrong(self, way: TokenWay) -> None:
        """Count the token."""
        self.wrong_tokens[way,].inc()

    async def watch_loop(self, every: float = 0.5) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.monotonic() + every
            await asyncio.sleep(every)
            self.loop_lag.observe(max(0.0, time.monotonic() - due))
