"""The gateway's metrics, under the names that the design fixes.

One registry a process, made by the composition root. Labels come only from closed sets or the
team directory: what a client writes never becomes a label. No histogram has a team label, because
collecting many of those blocks the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.model import MICRO, NO_LIMITS, ImageRequest, Limits, Team
from gateway.record import Record
from gateway.rules.account import EMPTY, GATEWAY, Account, team_account
from gateway.rules.catalog import AUTO, Model, quality_label
from gateway.rules.quota import Reserve
from gateway.rules.windows import day_of, month_of

# They would be a second series for each one, and nobody looks at them.
disable_created_metrics()  # type: ignore[no-untyped-call]  # published without types

ACCOUNT = "default"
"""The upstream account's label: there is one."""

OUTCOMES = (
    "client_closed",
    "collapsed",
    "draining",
    "forbidden",
    "hit",
    "insufficient_quota",
    "internal_error",
    "invalid_request",
    "miss",
    "models",
    "quota",
    "usage",
    "not_cached",
    "not_found",
    "overloaded",
    "rate_limited",
    "store_unavailable",
    "unauthenticated",
    "upstream_auth",
    "upstream_cut",
    "upstream_failed",
    "upstream_refused",
    "upstream_timeout",
    "upstream_unknown",
    "upstream_unreachable",
)
"""Everything that can come of a request: answers, `gateway.errors`, and clients that left."""

UNREADABLE = ("headers_too_large", "invalid_http")
"""The outcomes of requests that are no HTTP: nothing but their number is known of them."""

OPERATIONS = (
    *("load", "swap", "written", "record", "record_use", "write_activity", "due", "changes"),
)
"""What a serving gateway asks of its store."""

LEASE_OPERATIONS = ("take_lease", "renew_leases", "end_leases", "hand_over", "handed_over")
"""What it asks besides where several gateways share the store."""

_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5)


M = TypeVar("M", Counter, Histogram)


class Bound(dict[tuple[str, ...], M]):
    """An instrument's series by their label values: finding one costs a fourth of `labels()`."""

    def __init__(self, instrument: M) -> None:
        super().__init__()
        self._labels: Callable[..., M] = instrument.labels

    def __missing__(self, values: tuple[str, ...]) -> M:
        series = self[values] = self._labels(*values)
        return series


class Metrics:
    """All instruments. Amounts of money come in as micro-dollars and go out as dollars.

    `dropped_lines` tells how many log lines nobody read.
    """

    def __init__(self, dropped_lines: Callable[[], int] = lambda: 0) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Bound(
            Counter("gateway_requests", "Requests by outcome.", ["team", "outcome"], registry=r)
        )
        self.duration = Bound(
            Histogram(
                "gateway_request_duration_seconds",
                "From the request's head to its answer.",
                ["outcome"],
                buckets=_SECONDS,
                registry=r,
            )
        )
        self.overhead = Histogram(
            "gateway_overhead_seconds",
            "The gateway's own part of a request: without its client's body and the upstream.",
            buckets=_QUICK,
            registry=r,
        )
        self.upstream_requests = Bound(
            Counter(
                "gateway_upstream_requests",
                "Calls to the upstream by HTTP status, or by what went wrong instead.",
                ["account", "status"],
                registry=r,
            )
        )
        self.upstream_duration = Bound(
            Histogram(
                "gateway_upstream_duration_seconds",
                "From sending a call to its whole answer or failure.",
                ["model"],
                buckets=_SECONDS,
                registry=r,
            )
        )
        self.images = Bound(
            Counter(
                "gateway_images",
                "Images delivered, by where they came from.",
                ["team", "model", "size", "quality", "source"],
                registry=r,
            )
        )
        self.cost = Bound(
            Counter("gateway_cost_usd", "Money charged.", ["team", "model"], registry=r)
        )
        self.saved = Bound(
            Counter(
                "gateway_saved_usd",
                "Money that hits and shared flights saved.",
                ["team"],
                registry=r,
            )
        )
        self.above_hold = Counter(
            "gateway_settlements_above_hold", "Settlements above what was held.", registry=r
        )
        self.lost_purchases = Counter(
            "gateway_lost_purchases",
            "Purchases settled though the store, back with an older state, had lost them.",
            registry=r,
        )
        self.flights = Bound(
            Counter(
                "gateway_flights",
                "Purchases begun (lead), requests that joined one of this gateway (follow), and "
                "flights that waited for another gateway's (remote).",
                ["role"],
                registry=r,
            )
        )
        self.lease_losses = Counter(
            "gateway_lease_losses",
            "Leases that another gateway took while their purchase went on.",
            registry=r,
        )
        self.lookups = Bound(
            Counter("gateway_cache_lookups", "Cache look-ups.", ["tier", "result"], registry=r)
        )
        self.evictions = Bound(
            Counter(
                "gateway_cache_evictions",
                "Entries that left the cache.",
                ["tier", "reason"],
                registry=r,
            )
        )
        self.cache_bytes = Gauge("gateway_cache_bytes", "Bytes kept.", ["tier"], registry=r)
        self.cache_entries = Gauge("gateway_cache_entries", "Entries kept.", ["tier"], registry=r)
        self.in_flight = Gauge("gateway_in_flight_requests", "Requests now served.", registry=r)
        self.store_seconds = Bound(
            Histogram(
                "gateway_store_operation_seconds",
                "Time of the store's operations.",
                ["operation"],
                buckets=_QUICK,
                registry=r,
            )
        )
        self.store_errors = Bound(
            Counter("gateway_store_errors", "Failed store operations.", ["operation"], registry=r)
        )
        self.alerts = Bound(
            Counter(
                "gateway_alerts",
                "Messages to webhooks by their form, and whether they were sent or given up.",
                ["kind", "result"],
                registry=r,
            )
        )
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_QUICK,
            registry=r,
        )
        r.register(_DroppedLines(dropped_lines))
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Make the series that are known beforehand: a first failure is then a rise from zero."""
        for outcome in OUTCOMES:
            _ = self.duration[outcome,]
        for outcome in UNREADABLE:
            _ = self.requests["", outcome]
        for role in ("lead", "follow", "remote"):
            _ = self.flights[role,]
        for operation in OPERATIONS:
            _ = self.store_seconds[operation,], self.store_errors[operation,]
        _ = self.store_errors["went_back",]
        for result in ("hit", "miss"):
            _ = self.lookups["memory", result]
        for kind in ("json", "slack"):
            for result in ("sent", "failed"):
                _ = self.alerts[kind, result]
        for reason in ("expired", "replaced", "size"):
            _ = self.evictions["memory", reason]

    def begin_redis_at_zero(self) -> None:
        """The same, where there is a Redis behind the memory cache."""
        for result in ("hit", "miss", "error"):
            _ = self.lookups["redis", result]

    def begin_leases_at_zero(self) -> None:
        """The same, where gateways elect a buyer."""
        for operation in LEASE_OPERATIONS:
            _ = self.store_seconds[operation,], self.store_errors[operation,]

    def request_ended(self, record: Record, seconds: float) -> None:
        """Count a request that has been answered, or whose client left."""
        team = record.caller.team.name if record.caller else ""
        self.requests[team, record.outcome].inc()
        self.duration[record.outcome,].observe(seconds)
        self.overhead.observe(max(0.0, seconds - record.waited))

    def request_unreadable(self, outcome: str) -> None:
        """Count a request that the HTTP parser refused; `outcome` is one of `UNREADABLE`."""
        self.requests["", outcome].inc()

    def delivered(
        self, team: str, request: ImageRequest, model: Model, images: int, source: str
    ) -> None:
        """Count delivered images; `source` is "upstream" or "cache"."""
        size, quality = closed_labels(request, model)
        self.images[team, request.model, size, quality, source].inc(images)

    def charged(self, reservation: Reserve, cost: int) -> None:
        """Count money charged, in micro-dollars."""
        self.cost[reservation.team, reservation.model].inc(cost / MICRO)
        if cost > reservation.cost:
            self.above_hold.inc()

    def upstream_ended(self, model: str, status: str, seconds: float) -> None:
        """Count one call to the upstream; `status` is its HTTP status or our code for its end."""
        self.upstream_requests[ACCOUNT, status].inc()
        self.upstream_duration[model,].observe(seconds)

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """Count one operation of the store, or ("went_back") an account that lost writes."""
        self.store_seconds[operation,].observe(seconds)
        if not ok:
            self.store_errors[operation,].inc()

    async def watch_loop(self, every: float = 0.5) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.monotonic() + every
            await asyncio.sleep(every)
            self.loop_lag.observe(max(0.0, time.monotonic() - due))


def closed_labels(request: ImageRequest, model: Model) -> tuple[str, str]:
    """Size and quality as labels: those that the configuration names, "other" for the rest."""
    size = request.size
    named = size in (AUTO, model.default_size) or size in (model.sizes.allowed or ())
    if not named and all(size != priced for _, priced in model.prices.cells):
        size = "other"
    return size, quality_label(request.quality)


class _DroppedLines(Collector):
    """`log_lines_dropped`, read from the logs when it is asked for."""

    def __init__(self, dropped_lines: Callable[[], int]) -> None:
        self._dropped_lines = dropped_lines

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "gateway_log_lines_dropped", "Log lines that nobody read.", value=self._dropped_lines()
        )


class QuotaCollector(Collector):
    """`quota_limit`, `quota_used` and `reservations_open`, computed when they are asked for.

    Holds count as used. The accounts are the ones this process read or wrote last.
    """

    def __init__(
        self,
        teams: Callable[[], Mapping[str, Team]],
        gateway_limits: Callable[[], Limits],
        wall: Callable[[], float],
    ) -> None:
        self._teams = teams
        self._gateway_limits = gateway_limits
        self._wall = wall
        self._accounts: dict[str, Account] = {}

    def saw(self, accounts: Mapping[str, Account]) -> None:
        """Take over accounts just read or written."""
        self._accounts.update(accounts)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The three families, as of now."""
        limit = GaugeMetricFamily("gateway_quota_limit", "A limit.", labels=["team", "limit"])
        used = GaugeMetricFamily(
            "gateway_quota_used", "What is used of a limit.", labels=["team", "limit"]
        )
        owners = [(name, team_account(name), team.limits) for name, team in self._teams().items()]
        for label, account, limits in [*owners, ("", GATEWAY, self._gateway_limits())]:
            for name, size, spent in _levels(
                self._accounts.get(account, EMPTY), limits, self._wall()
            ):
                limit.add_metric([label, name], size)
                used.add_metric([label, name], spent)
        holds = sum(len(account.holds) for account in self._accounts.values())
        yield from (limit, used)
        yield GaugeMetricFamily("gateway_reservations_open", "Purchases not settled.", value=holds)


def _levels(account: Account, limits: Limits, now: float) -> Iterable[tuple[str, float, float]]:
    if limits == NO_LIMITS:
        return
    day, month = account.day.roll(day_of(now)), account.month.roll(month_of(now))
    minute = sum(count for _, count in account.minute_at(now))
    for name, size, used in (
        ("images_per_day", limits.images_per_day, day.images + day.held_images),
        ("images_per_month", limits.images_per_month, month.images + month.held_images),
        ("requests_per_minute", limits.requests_per_minute, minute),
        ("concurrent_requests", limits.concurrent_requests, len(account.holds)),
    ):
        if size is not None:
            yield name, size, used
    for name, cost, window in (
        ("cost_per_day_usd", limits.cost_per_day, day),
        ("cost_per_month_usd", limits.cost_per_month, month),
    ):
        if cost is not None:
            yield name, cost / MICRO, (window.cost + window.held_cost) / MICRO
