"""The composition: builds all parts of a gateway from the settings, starts and stops them.

Stopping is a drain: /readyz fails at once and nothing new is bought. Purchases in flight are
delivered and settled within `drain_seconds`. Then everything closes. The notice before it lets load
balancers look elsewhere while everything is still served, so that a restart loses no request.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from gateway import __version__
from gateway.cache.codec import Seal
from gateway.cache.stack import CacheStack
from gateway.config.live import LiveSettings
from gateway.config.settings import Settings
from gateway.config.values import addresses_of
from gateway.core.clock import SharedClock, since_boot
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.images.buyers import PictureBuyers
from gateway.images.store import ImageStore
from gateway.proxy.operations import OpenOperations
from gateway.proxy.pipeline import Proxy
from gateway.quota.ledger import Ledger
from gateway.reporting.alerts.delivery import Deliverer
from gateway.reporting.alerts.http import HttpWebhooks
from gateway.reporting.alerts.watch import Alerts
from gateway.reporting.free_usage import FreeUsage
from gateway.reporting.request_history import RequestHistory
from gateway.reporting.retention import Retention
from gateway.server import startup
from gateway.server.files import connection_limits
from gateway.server.ids import new_id
from gateway.server.memory import MemoryTrimmer
from gateway.server.readiness import Readiness
from gateway.server.shared_file import SharedFileWatch
from gateway.server.startup import StartError
from gateway.server.store_watch import StoreWatch
from gateway.telemetry.logging import dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observers
from gateway.telemetry.quota_gauges import QuotaGauges
from gateway.tenants.directory import Directory
from gateway.tenants.last_used import LastUsed
from gateway.upstream.client import HttpUpstream
from gateway.upstream.credentials import KeyFileWatcher
from gateway.web.access_log import AccessLog
from gateway.web.admin.alerts import AdminAlerts
from gateway.web.admin.app import AdminApi, NotReady
from gateway.web.admin.cache import AdminCache
from gateway.web.admin.config import AdminConfig
from gateway.web.admin.http import API, AdminRoute
from gateway.web.admin.keys import AdminKeys
from gateway.web.admin.purchases import AdminPurchases
from gateway.web.admin.reports import Reports
from gateway.web.admin.teams import AdminTeams
from gateway.web.file_reserve import FileReserve
from gateway.web.http_server import Listener, bind_error, reachable
from gateway.web.images import ImageFiles
from gateway.web.openapi import TEAM, DocumentedPort
from gateway.web.public import PublicApi
from gateway.web.routes import routes_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(source="gateway")

LINGER_SECONDS = 5.0
"""How long a gateway that drains without notice accepts new connections. Load balancers that check
/readyz send them elsewhere by then; clients are refused from then on, and reconnect elsewhere."""

ARRIVAL_SECONDS = 1.0
"""How long purchases are admitted after a notice: for requests that are arriving at its end."""


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
        startup.require_caches(settings)
        self.certificate = startup.load_certificate(settings)
        self.pepper = startup.load_pepper(settings.keys, settings.store.place)
        clock = SharedClock(wall)
        now = self._now = clock.now
        self.metrics = Metrics(dropped_lines)
        observers = self.observers = Observers(self.metrics, AccessLog())
        tracing = startup.load_tracing(settings, exporter)

        store = self.store = startup.build_store(settings.store, observers.store_operation)
        last_used = LastUsed(store.directory, wall=now)
        self.directory = Directory(
            store.directory,
            pepper=self.pepper,
            wall=now,
            monotonic=since_boot,
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
        self._readiness = Readiness(store.accounts, lambda: self.directory.age)
        self._free_usage = FreeUsage(store.accounts, new_id=new_id, wall=now)
        self._history = RequestHistory(store.history, settings=live, wall=now, writer=new_id()[:8])
        memory = MemoryTrimmer()
        self._buyers = PictureBuyers(store.pictures, settings=live, wall=now)
        listeners = (gauges, self.alerts, self._free_usage, self._history, self._buyers, memory)
        for listener in (*listeners, self._readiness):
            observers.add(listener)

        images = self.images = ImageStore(live, wall=now, observer=observers)
        cache = self.cache = CacheStack(
            live, Seal(self.pepper), store, self.directory, images, wall=now, observer=observers
        )
        election = startup.build_election(settings.store, cache, observers)
        operations = OpenOperations(ledger, election.leases, gateway=new_id(), wall=now)
        upstream = HttpUpstream()
        pictures = startup.build_pictures(images, cache, self.pepper, now, observers)
        self.proxy = Proxy(
            live,
            directory=self.directory,
            cache=cache.answers,
            ledger=ledger,
            upstream=upstream,
            election=election,
            operations=operations,
            pictures=pictures,
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
            files=ImageFiles(images, pictures.links, now),
            tracing=tracing,
            observer=observers,
        )
        server = settings.server
        limits = connection_limits(server)
        self._files = FileReserve()
        self._public_port = Listener(
            self.public.handle, server, limits, reserve=self._files, observer=observers
        )
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
            self._buyers,
            Retention(
                store.usage, store.history, store.pictures, store.audit, settings=live, wall=now
            ),
            images,
            cache,
            pictures,
            upstream,
            election,
            operations,
            memory,
            self._background,
            KeyFileWatcher(live),
            gauges,
            self._readiness,
            self._files,
            SharedFileWatch(settings.store.place),
        ]
        self._store_watch = StoreWatch(store, settings.store.place.shown, self.metrics)
        self._services.append(self._store_watch)
        self._tracing = tracing
        self._leaving = False
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
        self._urls = await self._listen(self._public_port, server.host, server.port, tls)
        self.url = reachable(self._urls[0])
        admin = Listener(self._admin_api().handle, server, reserve=self._files, essential=True)
        self._admin_urls = await self._listen(admin, server.admin_host, server.admin_port)
        self.admin_url = reachable(self._admin_urls[0])

    async def _listen(
        self,
        port: Listener,
        hosts: str | tuple[str, ...],
        number: int,
        tls: ssl.SSLContext | None = None,
    ) -> list[str]:
        """Listen on all hosts, with one port number, and return the URLs. Raises StartError."""
        self._running.push_async_callback(port.close)
        urls = list[str]()
        for host in addresses_of(hosts):
            try:
                urls.append(await port.open(host, number, tls))
            except OSError as error:
                raise StartError(bind_error(error, host, number)) from None
            number = urlsplit(urls[0]).port or 0
        return urls

    def _declare_metrics(self) -> None:
        """Connect gauges to the parts that they show, and create series that begin at zero."""
        metrics, live = self.metrics, self._live
        metrics.ready.set_function(lambda: self._not_ready() is None)
        metrics.in_flight.set_function(lambda: self.proxy.in_flight)
        metrics.in_flight_limit.set_function(lambda: live().server.max_in_flight)
        metrics.connections.set_function(lambda: self._public_port.connections)
        metrics.connections_limit.set(self._public_port.limits.total)
        metrics.flights_open.set_function(lambda: self.flights)
        self.cache.show_in(metrics)
        if live().store.place.kind != "sqlite":
            metrics.begin_leases_at_zero()

    def _log_start(self) -> None:
        store, cache = self.settings.store.place, self.settings.cache.place
        for doubt in startup.doubts(self.settings, self.directory.teams.values()):
            log.warning(doubt)
        log.info(
            "started",
            version=__version__,
            public=" ".join(self._urls),
            admin=" ".join(self._admin_urls),
            store=store.shown,
            cache=cache.shown if cache else "memory",
            images=self.settings.images.url if self.settings.images.enabled else None,
        )

    # -- stopping -------------------------------------------------------------------------------

    async def give_notice(self) -> None:
        """Report for `drain_notice_seconds` that the drain follows, but still serve everything.

        Each connection ends with its next answer, so that load balancers keep none. At the end no
        new connections are accepted: not before, because a refused client may have no other
        gateway, and not later, because some load balancers look elsewhere only then.
        """
        seconds = self.settings.server.drain_notice_seconds
        if not seconds:
            return
        log.info("notice of the drain", seconds=seconds)
        self._leaving = True
        self._public_port.end_keepalive()
        await asyncio.sleep(seconds)
        await self._public_port.refuse_newcomers()
        await asyncio.sleep(min(seconds, ARRIVAL_SECONDS))

    async def stop(self) -> None:
        """Deliver and settle purchases in flight for `drain_seconds`, then close everything."""
        seconds = self.settings.server.drain_seconds
        latest = datetime.fromtimestamp(self._now() + seconds, UTC).isoformat(timespec="seconds")
        log.info("draining", flights=self.flights, until_at_the_latest=latest)
        self.proxy.draining = True
        lingering = asyncio.create_task(self._linger())
        await self.proxy.drain(seconds)
        lingering.cancel()
        await self._running.aclose()
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
            observer=self.observers,
            public_url=lambda: self.settings.server.admin_public_url,
            store_settings=lambda: self._store_watch.settings,
        )

    def admin_routes(self) -> list[AdminRoute]:
        """The routes of the admin API."""
        store, live = self.store, self._live
        parts = (
            AdminTeams(store.directory, live),
            AdminKeys(store.directory, self.pepper),
            Reports(store, live, self.flush, self._history.flush),
            AdminPurchases(store, self._buyers.flush),
            AdminCache(store.directory, self.directory, self.cache, self.metrics.registry, live),
            AdminConfig(live, self.url),
            AdminAlerts(store.claims, live),
        )
        return [route for part in parts for route in routes_of(part, API)]

    def _not_ready(self) -> NotReady | None:
        if self._leaving or self.proxy.draining:
            return NotReady("draining")
        cause = self._readiness.cause
        return NotReady("store_unavailable", cause) if cause else None
