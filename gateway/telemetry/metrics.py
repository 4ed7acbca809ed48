"""The gateway's metrics, under the names that the design fixes.

One registry a process, made by the composition root. Labels come only from closed sets or the
team directory: what a client writes never becomes a label. No histogram has a team label, because
collecting many of those blocks the event loop.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gateway.core.model import Entry, Limits, Team
from gateway.core.money import MICRO
from gateway.quota.limits import Refusal
from gateway.quota.steps import Reserve
from gateway.telemetry.observer import FlightRole, Observer
from gateway.telemetry.quota_gauges import limits_set
from gateway.telemetry.request_record import RequestRecord

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
"""Everything that can come of a request: answers, `gateway.core.errors`, and clients that left."""

TEAM_OUTCOMES = (
    *("miss", "hit", "collapsed", "insufficient_quota", "rate_limited", "store_unavailable"),
    *("upstream_auth", "upstream_cut", "upstream_failed", "upstream_refused"),
    *("upstream_timeout", "upstream_unknown", "upstream_unreachable"),
)
"""Those that a team's series begin with: what rates and shares are made of."""

UNREADABLE = ("headers_too_large", "invalid_http")
"""The outcomes of requests that are no HTTP: nothing but their number is known of them."""

OPERATIONS = (
    *("load", "swap", "written", "record", "record_use", "write_activity", "due", "changes"),
)
"""What a serving gateway asks of its store."""

CALL_ENDS = (
    *("200", "400", "401", "403", "404", "408", "429", "500", "502", "503", "504"),
    *("upstream_cut", "upstream_timeout", "upstream_unreachable", "upstream_unknown"),
)
"""How calls to the upstream end as a rule: other statuses are counted from their first one on."""

EXEMPLAR_CHARS = 128 - len("request_id")
"""How long a request's id may be to go along with its duration: OpenMetrics allows no more."""

EXEMPLAR_SECONDS = 0.025
"""From here on a request's id goes along. It would cost hits some 5 µs, and nobody looks for one
that was quick."""

LEASE_OPERATIONS = ("take_lease", "renew_leases", "end_leases", "hand_over", "handed_over")
"""What it asks besides where several gateways share the store."""

_SECONDS = (
    *(0.005, 0.025, 0.1, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 320),
)
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


class Metrics(Observer):
    """All instruments. Amounts of money come in as micro-dollars and go out as dollars.

    `dropped_lines` tells how many log lines nobody read.
    """

    def __init__(self, dropped_lines: Callable[[], int] = lambda: 0) -> None:
        r = self.registry = CollectorRegistry()
        self._make_requests(r)
        self._make_upstream(r)
        self._make_money(r)
        self._make_cache(r)
        self._make_store(r)
        self._make_process(r)
        r.register(_DroppedLines(dropped_lines))
        self._begun: dict[str, tuple[Team, tuple[str, ...]]] = {}
        self._begin_at_zero()
        self._begin_purchases_at_zero()

    def _make_requests(self, r: CollectorRegistry) -> None:
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
        self.in_flight = Gauge("gateway_in_flight_requests", "Requests now served.", registry=r)
        self.in_flight_limit = Gauge(
            "gateway_in_flight_limit",
            "How many requests, and how many purchases, may be under way at once.",
            registry=r,
        )

    def _make_upstream(self, r: CollectorRegistry) -> None:
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
        self.flights = Bound(
            Counter(
                "gateway_flights",
                "Purchases begun (lead), requests that joined one of this gateway (follow), and "
                "flights that waited for another gateway's (remote).",
                ["role"],
                registry=r,
            )
        )
        self.flights_open = Gauge(
            "gateway_flights_open",
            "Purchases under way here, also those whose clients have left.",
            registry=r,
        )
        self.lease_losses = Counter(
            "gateway_lease_losses",
            "Leases that another gateway took while their purchase went on.",
            registry=r,
        )

    def _make_money(self, r: CollectorRegistry) -> None:
        self.images = Bound(
            Counter(
                "gateway_images",
                "Images delivered, by where they came from.",
                ["team", "model", "size", "quality", "source"],
                registry=r,
            )
        )
        self.cost = MoneyCounter("gateway_cost_usd", "Money charged.", ["team", "model"], r)
        self.saved = MoneyCounter(
            "gateway_saved_usd", "Money that hits and shared flights saved.", ["team"], r
        )
        self.refusals = Bound(
            Counter(
                "gateway_quota_refusals",
                "Purchases refused, by the limit that stood in the way and whose it is: the "
                "team's own, one of its keys', or (team empty) the gateway's.",
                ["team", "limit", "whose"],
                registry=r,
            )
        )
        self.unknown_charges = Bound(
            Counter(
                "gateway_unknown_charges",
                "Purchases charged though nobody can tell whether pictures were drawn: the call "
                "ended so (call), or its gateway died (swept).",
                ["cause"],
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
        self.alerts = Bound(
            Counter(
                "gateway_alerts",
                "Messages to webhooks by their form, and whether they were sent or given up.",
                ["kind", "result"],
                registry=r,
            )
        )

    def _make_cache(self, r: CollectorRegistry) -> None:
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
        self.cache_limit = Gauge(
            "gateway_cache_limit_bytes", "How many bytes may be kept.", ["tier"], registry=r
        )
        self.cache_entries = Gauge("gateway_cache_entries", "Entries kept.", ["tier"], registry=r)

    def _make_store(self, r: CollectorRegistry) -> None:
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

    def _make_process(self, r: CollectorRegistry) -> None:
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds",
            "How late the event loop runs what is due.",
            buckets=_QUICK,
            registry=r,
        )
        ProcessCollector(namespace="gateway", registry=r)

    def _begin_at_zero(self) -> None:
        """Make the series that are known beforehand: a first failure is then a rise from zero."""
        for outcome in OUTCOMES:
            _ = self.duration[outcome,]
        for outcome in UNREADABLE:
            _ = self.requests["", outcome]
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

    def _begin_purchases_at_zero(self) -> None:
        for status in CALL_ENDS:
            _ = self.upstream_requests[ACCOUNT, status]
        for cause in ("call", "swept"):
            _ = self.unknown_charges[cause,]
        for role in ("lead", "follow", "remote"):
            _ = self.flights[role,]

    def begin_redis_at_zero(self) -> None:
        """The same, where there is a Redis behind the memory cache."""
        for result in ("hit", "miss", "error"):
            _ = self.lookups["redis", result]

    def begin_leases_at_zero(self) -> None:
        """The same, where gateways elect a buyer."""
        for operation in LEASE_OPERATIONS:
            _ = self.store_seconds[operation,], self.store_errors[operation,]

    def begin_teams_at_zero(
        self, teams: Mapping[str, Team], gateway: Limits, models: Iterable[str]
    ) -> None:
        """The same for each team's money, outcomes and limits, and for the gateway's limits.

        Asked again, it does only what is new of teams and models.
        """
        models = tuple(models)
        for name, team in teams.items():
            if self._begun.get(name) != (team, models):
                self._begin_team_at_zero(team, models)
                self._begun[name] = team, models
        for limit in limits_set(gateway):
            _ = self.refusals["", limit, "gateway"]

    def _begin_team_at_zero(self, team: Team, models: Iterable[str]) -> None:
        for model in models:
            self.cost.add((team.name, model), 0)
        self.saved.add((team.name,), 0)
        for outcome in TEAM_OUTCOMES:
            _ = self.requests[team.name, outcome]
        for limit in limits_set(team.limits):
            _ = self.refusals[team.name, limit, "team"]

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Count a request that has been answered, or whose client left."""
        team = record.caller.team.name if record.caller else ""
        self.requests[team, record.outcome].inc()
        told = seconds >= EXEMPLAR_SECONDS and len(record.id) <= EXEMPLAR_CHARS
        exemplar = {"request_id": record.id} if told else None
        self.duration[record.outcome,].observe(seconds, exemplar)
        self.overhead.observe(record.own_seconds(seconds))

    def request_unreadable(self, outcome: str) -> None:
        """Count a request that the HTTP parser refused; `outcome` is one of `UNREADABLE`."""
        self.requests["", outcome].inc()

    def answer_ready(self, record: RequestRecord) -> None:
        """Count the images, and what they saved if they were not bought for this request."""
        team = record.caller.team.name if record.caller else ""
        source = "upstream" if record.outcome == "miss" else "cache"
        self.images[team, *record.labels, source].inc(record.images)
        if source == "cache":
            self.saved.add((team,), record.saved)

    def charged(self, reservation: Reserve, cost: int, *, unknown: bool, swept: bool) -> None:
        """Count money charged, in micro-dollars."""
        if unknown:
            self.unknown_charges["call",].inc()
        if swept:
            return
        self.cost.add((reservation.team, reservation.model), cost)
        if cost > reservation.cost:
            self.above_hold.inc()

    def holds_swept(self, entries: Sequence[Entry]) -> None:
        """Count holds that were charged as unknown because nobody settled them in time."""
        self.unknown_charges["swept",].inc(len(entries))
        for entry in entries:
            self.cost.add((entry.team, entry.model), entry.cost)

    def purchase_refused(self, team: str, refusal: Refusal) -> None:
        """Count a purchase of this team that a limit refused."""
        whose = refusal.scope
        self.refusals["" if whose == "gateway" else team, refusal.limit, whose].inc()

    def upstream_call_ended(self, model: str, status: str, seconds: float) -> None:
        """Count one call to the upstream; `status` is its HTTP status or our code for its end."""
        self.upstream_requests[ACCOUNT, status].inc()
        self.upstream_duration[model,].observe(seconds)

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """Count one operation of the store, or ("went_back") an account that lost writes."""
        self.store_seconds[operation,].observe(seconds)
        errors = self.store_errors[operation,]  # which begin at zero with what went well
        if not ok:
            errors.inc()

    def flight(self, role: FlightRole) -> None:
        """Count a flight that started, was joined or waits for another gateway."""
        self.flights[role,].inc()

    def lease_lost(self) -> None:
        """Count a lost lease."""
        self.lease_losses.inc()

    def lost_purchase_settled(self) -> None:
        """Count a purchase that the store had lost."""
        self.lost_purchases.inc()

    def cache_lookup(self, tier: str, result: str) -> None:
        """Count a look-up."""
        self.lookups[tier, result].inc()

    def cache_eviction(self, tier: str, reason: str) -> None:
        """Count an entry that left."""
        self.evictions[tier, reason].inc()

    def alert_ended(self, kind: str, result: str) -> None:
        """Count a message to a webhook."""
        self.alerts[kind, result].inc()

    async def watch_loop(self, every: float = 0.5) -> None:
        """Measure the event loop's lag until cancelled."""
        while True:
            due = time.monotonic() + every
            await asyncio.sleep(every)
            self.loop_lag.observe(max(0.0, time.monotonic() - due))


class _DroppedLines(Collector):
    """`log_lines_dropped`, read from the logs when it is asked for."""

    def __init__(self, dropped_lines: Callable[[], int]) -> None:
        self._dropped_lines = dropped_lines

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "gateway_log_lines_dropped", "Log lines that nobody read.", value=self._dropped_lines()
        )


class MoneyCounter(Collector):
    """Counts whole micro-dollars and tells dollars, each the number nearest to the exact sum."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._micros = defaultdict[tuple[str, ...], int](int)
        registry.register(self)

    def add(self, labels: tuple[str, ...], micros: int) -> None:
        """Count so many micro-dollars more for the series with these label values."""
        self._micros[labels] += micros

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The family, with a series for each of the label values so far."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, micros in list(self._micros.items()):
            family.add_metric(labels, micros / MICRO)
        yield family
