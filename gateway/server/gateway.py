"""The composition: builds all parts of a gateway from the settings, starts and stops them.

Stopping is a drain: /readyz fails at once and nothing new is bought. Purchases in flight are
delivered and settled within `drain_seconds`. Then everything closes.
"""

import asyncio
import random
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from gateway import __version__
from gateway.cache.codec import Seal
from gateway.cache.stack import CacheStack
from gateway.config.live import LiveSettings
from gateway.config.settings import Settings
from gateway.core.clock import SharedClock
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.proxy.election import LocalElection, SharedElection
from gateway.proxy.pipeline import Proxy
from gateway.quota.ledger import Ledger
from gateway.reporting.alerts.delivery import Deliverer
from gateway.reporting.alerts.http import HttpWebhooks
from gateway.reporting.alerts.watch import Alerts
from gateway.reporting.free_usage import FreeUsage
from gateway.reporting.request_history import RequestHistory
from gateway.reporting.retention import Retention
from gateway.server import startup
from gateway.server.memory import MemoryTrimmer
from gateway.server.startup import StartError
from gateway.stores.redis.leases import RedisLeases
from gateway.telemetry.logging import dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer, Observers
from gateway.telemetry.quota_gauges import QuotaGauges
from gateway.tenants.directory import Directory
from gateway.tenants.last_used import LastUsed
from gateway.upstream.client import HttpUpstream
from gateway.upstream.credentials import KeyFileWatcher
from gateway.web.access_log import AccessLog
from gateway.web.admin.alerts import AdminAlerts
from gateway.web.admin.app import AdminApi
from gateway.web.admin.cache import AdminCache
from gateway.web.admin.config import AdminConfig
from gateway.web.admin.http import API, AdminRoute
from gateway.web.admin.keys import AdminKeys
from gateway.web.admin.reports import Reports
from gateway.web.admin.teams import AdminTeams
from gateway.web.http_server import Listener, bind_error
from gateway.web.openapi import TEAM, DocumentedPort
from gateway.web.public import PublicApi
from gateway.web.routes import routes_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(source="gateway")

READY_SECONDS = 2.0
"""How long ago the store may have answered last for the gateway to be ready."""

LINGER_SECONDS = 5.0
"""How long a draining gateway accepts new connections. Load balancers that check /readyz send
them elsewhere by then; clients without one are refused from then on, and reconnect elsewhere."""


class Gateway:
    """A whole gateway in this process.

    Building it reads the files that the settings name, creates a missing pepper, and raises
    StartError if the settings cannot work. It connects to nothing: `start` opens all parts, and
    `stop` drains and closes them. `wall` is this machine's clock in seconds since the
    epoch. `exporter` receives spans where tracing is on; without it, OpenTelemetry's environment
    variables say where spans go.
    """

    def __init__(
        self,
        settings: Settings,
        wall: Callable[[], float] = time.time,
        exporter: "SpanExporter | None" = None,
    ) -> None:
        live = self._live = LiveSettings(startup.with_upstream_key(settings))
        startup.require_webhooks(settings)
        self.certificate = startup.load_certificate(settings)
        self.pepper = startup.load_pepper(settings.keys, settings.store.place)
        clock = SharedClock(wall)
        now = self._now = clock.now
        self.metrics = Metrics(dropped_lines)
        observers = self.observers = Observers(self.metrics, AccessLog())
        tracing = startup.load_tracing(settings, exporter)

        store = self.store = startup.build_store(settings.store.place, observers.store_operation)
        last_used = LastUsed(store.directory, wall=now)
        self.directory = Directory(
            store.directory,
            pepper=self.pepper,
            wall=now,
            monotonic=time.monotonic,
            on_use=last_used.note,
            on_time=clock.correct,
        )
        gauges = QuotaGauges(store.accounts, self.directory, live, self.metrics, observers, now)
        self.metrics.registry.register(gauges)
        webhooks = HttpWebhooks()
        deliverer = Deliverer(
            store.claims,
            webhooks,
            live,
            secret=self.pepper,
            owner=new_id(),
            wall=now,
            spread=random.random,
            observer=observers,
        )
        self.alerts = Alerts(store.usage, self.directory, live, deliverer, wall=now)
        ledger = Ledger(store.accounts, spread=random.random, observer=observers)
        self._free_usage = FreeUsage(store.accounts, new_id=new_id, wall=now)
        self._history = RequestHistory(store.history, settings=live, wall=now, writer=new_id()[:8])
        memory = MemoryTrimmer()
        for listener in (gauges, self.alerts, self._free_usage, self._history, memory):
            observers.add(listener)

        cache = self._cache = CacheStack(
            live, Seal(self.pepper), store.audit, self.directory, wall=now, observer=observers
        )
        election = _election(settings, cache, observers)
        upstream = HttpUpstream()
        self.proxy = Proxy(
            live,
            directory=self.directory,
            cache=cache.answers,
            ledger=ledger,
            upstream=upstream,
            election=election,
            wall=now,
            spread=random.random,
            new_id=new_id,
            tracing=tracing,
            observer=observers,
            amend=cache.memory.amend,
        )
        self.public = PublicApi(
            self.proxy,
            self.directory,
            store,
            new_id=new_id,
            wall=now,
            flush=self.flush,
            tracing=tracing,
            observer=observers,
        )
        self._public_port = Listener(self.public.handle, settings.server, observer=observers)
        self._background = Background("gateway")
        # In the order in which they start. They close in reverse, so each one still finds all
        # that it needs: the ledger is closed after everything that buys, the store last of all.
        self._services: list[Service] = [
            last_used,
            self.directory,
            webhooks,
            self.alerts,
            ledger,
            self._free_usage,
            self._history,
            Retention(store.usage, store.history, store.audit, settings=live, wall=now),
            cache,
            upstream,
            election,
            memory,
            self._background,
            KeyFileWatcher(live),
            gauges,
        ]
        self._tracing = tracing
        self._running = AsyncExitStack()
        self._declare_metrics()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._live()

    def use(self, settings: Settings) -> None:
        """Put these settings in force: they apply to requests that arrive from now on.

        They contain the upstream key, and differ in no option that needs a restart: see
        `gateway.config.live`.
        """
        self._live.replace(settings)

    @property
    def flights(self) -> int:
        """Number of purchases in flight."""
        return len(self.proxy.flights)

    async def flush(self) -> None:
        """Write the free usage that is not in the store yet. Raises StoreUnavailable."""
        await self._free_usage.flush()

    # -- starting -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, charge purchases that a crash left open, and listen on both ports.

        Raises StartError.
        """
        try:
            await self._open()
        except BaseException as failure:
            await self._running.aclose()
            if isinstance(failure, StoreUnavailable):
                place = self.settings.store.place.shown
                raise StartError(f"The store {place} does not answer.") from None
            raise
        self._log_start()

    async def _open(self) -> None:
        running = self._running
        # First, so that it is closed last: the others make spans until they are closed.
        running.push_async_callback(self._tracing.aclose)
        await startup.open_checked(self.store, self.settings.store.place, self.pepper)
        running.push_async_callback(self.store.close)
        for service in self._services:
            await running.enter_async_context(service)
        self._background.spawn(self.metrics.watch_loop())
        server = self.settings.server
        tls = self.certificate.context if self.certificate else None
        self.url = await self._listen(self._public_port, server.host, server.port, tls)
        admin = Listener(self._admin_api().handle, server)
        self.admin_url = await self._listen(admin, server.admin_host, server.admin_port)

    async def _listen(
        self, port: Listener, host: str, number: int, tls: ssl.SSLContext | None = None
    ) -> str:
        """Listen and return the URL. Raises StartError."""
        self._running.push_async_callback(port.close)
        try:
            return await port.open(host, number, tls)
        except OSError as error:
            raise StartError(bind_error(error, host, number)) from None

    def _declare_metrics(self) -> None:
        """Connect gauges to the parts that they show, and create series that begin at zero."""
        metrics, live, memory = self.metrics, self._live, self._cache.memory
        metrics.in_flight.set_function(lambda: self.proxy.in_flight)
        metrics.in_flight_limit.set_function(lambda: live().server.max_in_flight)
        metrics.flights_open.set_function(lambda: self.flights)
        metrics.cache_bytes.labels("memory").set_function(lambda: memory.bytes)
        metrics.cache_limit.labels("memory").set(live().cache.max_bytes)
        metrics.cache_entries.labels("memory").set_function(lambda: len(memory))
        if live().cache.place is not None:
            metrics.begin_redis_at_zero()
        if live().store.place.kind != "sqlite":
            metrics.begin_leases_at_zero()

    def _log_start(self) -> None:
        store, cache = self.settings.store.place, self.settings.cache.place
        if store.kind != "sqlite":
            if not self.directory.teams:
                log.warning("the store has no teams: it is new, or it lost its data")
            if cache is None and self.settings.cache.enabled:
                log.warning("no [cache] url: each replica caches answers in its own memory only")
        log.info(
            "started",
            version=__version__,
            public=self.url,
            admin=self.admin_url,
            store=store.shown,
            cache=cache.shown if cache else "memory",
        )

    # -- stopping -------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Deliver and settle purchases in flight for `drain_seconds`, then close everything."""
        seconds = self.settings.server.drain_seconds
        latest = datetime.fromtimestamp(self._now() + seconds, UTC).isoformat(timespec="seconds")
        log.info("draining", flights=self.flights, until_at_the_latest=latest)
        self.proxy.draining = True
        lingering = asyncio.create_task(self._linger())
        await self.proxy.flights.drain(seconds)
        lingering.cancel()
        await self._running.aclose()
        # Only now, because settlements must not wait for it.
        await self._cache.keep()
        log.info("stopped")

    async def _linger(self) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        await self._public_port.refuse_newcomers()

    # -- the admin port -------------------------------------------------------------------------

    def _admin_api(self) -> AdminApi:
        return AdminApi(
            self.metrics.registry,
            self._not_ready,
            lambda: self.settings.admin,
            self.admin_routes(),
            DocumentedPort(url=self.url, security=TEAM, routes=self.public.routes),
            wall=self._now,
            pepper=self.pepper,
            new_id=new_id,
        )

    def admin_routes(self) -> list[AdminRoute]:
        """The routes of the admin API."""
        store, live = self.store, self._live
        parts = (
            AdminTeams(store.directory, lambda: live().models),
            AdminKeys(store.directory, self.pepper),
            Reports(store, live, self.flush, self._history.flush),
            AdminCache(store.directory, self.directory, self._cache, self.metrics.registry, live),
            AdminConfig(live, self.url),
            AdminAlerts(store.claims, live),
        )
        return [route for part in parts for route in routes_of(part, API)]

    def _not_ready(self) -> str | None:
        if self.proxy.draining:
            return "draining"
        if self.directory.age > READY_SECONDS:
            return "store_unavailable"
        return None


def _election(
    settings: Settings, cache: CacheStack, observer: Observer
) -> LocalElection | SharedElection:
    """The election of the replica that buys. A store on one machine needs none."""
    place = settings.store.place
    if place.kind == "sqlite":
        return LocalElection()
    return SharedElection(
        RedisLeases(place, observe=observer.store_operation),
        observer=observer,
        new_id=new_id,
        cache_is_shared=lambda: cache.is_shared,
    )


_ids = random.Random(secrets.randbits(256))  # noqa: S311 - the system's own source takes 5 µs
"""The source of ids. Ids are no secrets, but no two may be equal, here or in another process."""


def new_id() -> str:
    """A unique id: 128 random bits as 32 hexadecimal digits."""
    return f"{_ids.getrandbits(128):032x}"
