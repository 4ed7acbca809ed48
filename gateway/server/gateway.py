"""The composition root: builds the parts from the settings, starts them, and stops them in order.

Stopping is a drain: not ready at once, nothing new is bought, what is under way is delivered and
settled within `drain_seconds`, then everything closes, and the cache is kept if it is to be.
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
from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway import __version__
from gateway.cache import snapshot
from gateway.cache.invalidation import Purges
from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.cache.seal import Seal
from gateway.cache.tiers import TieredCache
from gateway.config.settings import AdminSettings, Settings
from gateway.core.clock import SharedClock
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Bought
from gateway.core.tasks import Background
from gateway.proxy.election import Election, LocalElection, SharedElection
from gateway.proxy.pipeline import Proxy
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.ledger import Ledger
from gateway.reporting.alerts.delivery import Alerts
from gateway.reporting.alerts.http import HttpWebhooks, secret_of, url_of
from gateway.reporting.free_usage import FreeUsage
from gateway.reporting.request_history import RequestHistory
from gateway.reporting.retention import Retention
from gateway.server.startup import StartError, load_pepper, open_store
from gateway.server.tls import Certificate, certificate_of
from gateway.stores.redis.leases import RedisLeases
from gateway.telemetry.logging import dropped_lines
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observers
from gateway.telemetry.quota_gauges import QuotaCollector
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.tenants.last_used import LastUsed
from gateway.upstream.client import HttpUpstream
from gateway.upstream.credentials import LOOK_SECONDS, KeyFile, with_key
from gateway.web.access_log import AccessLog
from gateway.web.admin.alerts import AdminAlerts
from gateway.web.admin.app import AdminApi
from gateway.web.admin.audit import AdminAudit
from gateway.web.admin.cache import AdminCache
from gateway.web.admin.config import AdminConfig
from gateway.web.admin.keys import AdminKeys
from gateway.web.admin.overview import AdminOverview
from gateway.web.admin.quota import AdminQuota
from gateway.web.admin.request import AdminRoute
from gateway.web.admin.requests import AdminActivity
from gateway.web.admin.teams import AdminTeams
from gateway.web.admin.usage import AdminUsage
from gateway.web.http_server import GatewayServer
from gateway.web.listener import Listener, why_not
from gateway.web.openapi.document import TEAM, DocumentedPort
from gateway.web.public import PublicApi
from gateway.web.self_service import SelfService

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

log = structlog.get_logger(source="gateway")

READY_SECONDS = 2.0
"""How recent the last word from the store must be for the gateway to be ready."""

GAUGE_SECONDS = 5.0
"""How often the quota gauges look at what other processes wrote."""

CLOSE_SECONDS = 5.0
"""What is left for last answers and last settlements once the drain's time is up."""

LINGER_SECONDS = 5.0
"""How long new connections are taken in a drain: balancers that look at /readyz go elsewhere by
then. Others are refused from then on, and so learn it too."""

CHARACTER_BYTES = 4
"""What a character of a text takes at the most."""


class Gateway:
    """A whole gateway in this process. `start` raises StartError; `stop` drains.

    `wall` is this machine's clock: seconds since the epoch. Spans go to `exporter`, where tracing
    is switched on, or else where the environment says.
    """

    def __init__(
        self,
        settings: Settings,
        wall: Callable[[], float] = time.time,
        exporter: "SpanExporter | None" = None,
    ) -> None:
        self.settings = _with_upstream(settings)
        _require_webhooks(settings)
        self.certificate = _certificate(settings)
        self._exporter = exporter
        self._clock = SharedClock(wall)
        self._wall = self._clock.now
        self._key_file = KeyFile()
        self._running = AsyncExitStack()
        self._redis_cache: RedisCache | None = None
        self.pepper = load_pepper(settings.keys, settings.store.place)
        self.metrics = Metrics(dropped_lines)
        self.observers = Observers(self.metrics, AccessLog())

    async def start(self) -> None:
        """Open the store, sweep what a crash left, and listen on both ports."""
        try:
            self._tracing = self._open_tracing()
            await self._open_ledger()
            await self._open_proxy()
            await self._listen()
        except StoreUnavailable:
            await self._running.aclose()
            place = self.settings.store.place.shown
            raise StartError(f"The store {place} does not answer.") from None
        except BaseException:
            await self._running.aclose()
            raise
        self._tell_of_start()

    def _tell_of_start(self) -> None:
        store, cache = self.settings.store.place, self.settings.cache.place
        if store.kind != "sqlite":
            if not self.directory.teams:
                log.warning("the store has no teams: it is new, or it lost what it held")
            if cache is None and self.settings.cache.enabled:
                log.warning("no [cache] url: each gateway keeps answers in its own memory alone")
        log.info(
            "started",
            version=__version__,
            public=self.url,
            admin=self.admin_url,
            store=store.shown,
            cache=cache.shown if cache else "memory",
        )

    def use(self, settings: Settings) -> None:
        """Go on with these settings: requests that come from now on are served by them.

        They hold the upstream's key, and differ in nothing that needs a restart: see
        `gateway.config.diff`.
        """
        self.settings = self.proxy.settings = settings

    @property
    def flights(self) -> int:
        """How many purchases are under way."""
        return len(self.proxy.flights)

    async def flush(self) -> None:
        """Write the hits that still wait. Raises StoreUnavailable."""
        await self._hits.flush()

    async def _flush_all(self) -> None:
        await self.flush()
        await self._activity.flush()

    async def stop(self) -> None:
        """Deliver and settle what is under way, then close everything."""
        latest = datetime.fromtimestamp(self._wall() + self.settings.server.drain_seconds, UTC)
        until = latest.isoformat(timespec="seconds")
        log.info("draining", flights=self.flights, until_at_the_latest=until)
        self.proxy.draining = True
        lingering = asyncio.create_task(self._linger())
        await self.proxy.flights.drain(self.settings.server.drain_seconds)
        lingering.cancel()
        await self._running.aclose()
        # Money and answers went first.
        await snapshot.keep(self._cache, self.settings.cache, self._wall)
        log.info("stopped")

    async def _linger(self) -> None:
        await asyncio.sleep(LINGER_SECONDS)
        await self._public_port.refuse_newcomers()

    def _open_tracing(self) -> Tracing:
        """What spans are told to. Raises StartError where the packages for it are not there."""
        tracing = self.settings.tracing
        if not tracing.enabled:
            return NO_TRACING
        try:
            from gateway.telemetry.otel import OpenTelemetryTracing
        except ModuleNotFoundError as missing:
            raise StartError(
                "[tracing] enabled needs the packages of image-gateway[otel]: "
                f"{missing.name} is not installed."
            ) from None
        kind = self.settings.store.place.kind
        telemetry = OpenTelemetryTracing(
            store=kind, prompts=tracing.prompts, exporter=self._exporter
        )
        self._running.push_async_callback(asyncio.to_thread, telemetry.close)
        return telemetry

    async def _open_ledger(self) -> None:
        """What keeps the keys and the money: store, last use, directory, ledger, hits."""
        settings, metrics, running = self.settings, self.metrics, self._running
        self.store = await open_store(settings, self.pepper, self.observers.store_operation)
        running.push_async_callback(self.store.close)
        last_used = await running.enter_async_context(
            LastUsed(self.store.directory, wall=self._wall)
        )
        self.directory = Directory(
            self.store.directory,
            pepper=self.pepper,
            wall=self._wall,
            monotonic=time.monotonic,
            on_use=last_used.note,
            on_time=self._clock.told,
        )
        await self.directory.start()
        running.push_async_callback(self.directory.close)
        self._gauges = QuotaCollector(
            lambda: self.directory.teams, lambda: self.settings.limits, self._wall
        )
        metrics.registry.register(self._gauges)
        self.observers.add(self._gauges)
        self._open_alerts()
        self._ledger = Ledger(
            self.store.accounts,
            spread=random.random,
            observer=self.observers,
        )
        running.push_async_callback(self._close_ledger)
        await self._ledger.start()
        self._hits = await running.enter_async_context(
            FreeUsage(self.store.accounts, new_id=new_id, wall=self._wall)
        )
        self.observers.add(self._hits)
        self._activity = await running.enter_async_context(
            RequestHistory(
                self.store.history,
                settings=lambda: self.settings,
                wall=self._wall,
                writer=new_id()[:8],
            )
        )
        self.observers.add(self._activity)
        await running.enter_async_context(
            Retention(
                self.store.usage,
                self.store.history,
                self.store.audit,
                settings=lambda: self.settings,
                wall=self._wall,
            )
        )

    def _open_alerts(self) -> None:
        """What tells people."""
        webhooks = HttpWebhooks()
        self._running.push_async_callback(webhooks.close)
        self.alerts = Alerts(
            self.store.claims,
            self.store.usage,
            webhooks,
            self.directory,
            lambda: self.settings,
            secret=self.pepper,
            owner=new_id(),
            wall=self._wall,
            spread=random.random,
            observer=self.observers,
        )
        self.observers.add(self.alerts)
        self.alerts.start()
        self._running.push_async_callback(self.alerts.close)

    async def _open_proxy(self) -> None:
        """What answers: cache, upstream client, the path of a request."""
        metrics = self.metrics
        cache = self._answers = await self._open_cache()
        upstream = HttpUpstream()
        self._running.push_async_callback(upstream.close)
        self.proxy = Proxy(
            self.settings,
            directory=self.directory,
            cache=cache,
            ledger=self._ledger,
            upstream=upstream,
            election=self._open_election(),
            wall=self._wall,
            spread=random.random,
            new_id=new_id,
            tracing=self._tracing,
            observer=self.observers,
            amend=self._cache.amend,
        )
        metrics.in_flight.set_function(lambda: self.proxy.in_flight)
        metrics.in_flight_limit.set_function(lambda: self.settings.server.max_in_flight)
        metrics.flights_open.set_function(lambda: self.flights)

    def _open_election(self) -> Election:
        """What keeps gateways of one store from buying the same at the same time."""
        place, metrics = self.settings.store.place, self.metrics
        if place.kind == "sqlite":
            return LocalElection()
        metrics.begin_leases_at_zero()
        election = SharedElection(
            RedisLeases(place, observe=self.observers.store_operation),
            observer=self.observers,
            new_id=new_id,
            cache_is_shared=lambda: self._redis_cache is not None and not self._redis_cache.away,
        )
        election.start()
        self._running.push_async_callback(election.close)
        return election

    async def _open_cache(self) -> BaseCache:
        """The memory cache, with what was kept over a restart, and Redis behind it if there is."""
        settings, metrics = self.settings, self.metrics
        memory = self._cache = MemoryCache(
            max_bytes=settings.cache.max_bytes,
            max_entry_bytes=settings.cache.max_entry_bytes,
            size=_bytes_of,
            on_evict=lambda reason: self.observers.cache_eviction("memory", reason),
        )
        await snapshot.put_back(memory, settings.cache, self._wall)
        purges = Purges(self.store.audit, memory, lambda: self.directory.generation, self._wall)
        await purges.look()
        purges.start()
        self._running.push_async_callback(purges.close)
        metrics.cache_bytes.labels("memory").set_function(lambda: memory.bytes)
        metrics.cache_limit.labels("memory").set(settings.cache.max_bytes)
        metrics.cache_entries.labels("memory").set_function(lambda: len(memory))
        if settings.cache.place is None:
            return memory
        metrics.begin_redis_at_zero()
        redis = self._redis_cache = RedisCache(
            settings.cache.place,
            Seal(self.pepper),
            settings.cache.max_entry_bytes,
            self._wall,
            on_lookup=lambda result: self.observers.cache_lookup("redis", result),
        )
        cache = TieredCache(memory, redis, self._wall)
        self._running.push_async_callback(cache.close)
        if settings.cache.enabled:
            await redis.open()
        return cache

    async def _listen(self) -> None:
        server = self.settings.server
        background = Background("gateway")
        background.spawn(self.metrics.watch_loop())
        background.every(GAUGE_SECONDS, self._read_gauges, survive=StoreUnavailable)
        background.every(LOOK_SECONDS, self._look_at_key)
        self._running.push_async_callback(background.close)
        await self._read_gauges()
        own = SelfService(self.store, self.flush, self._wall)
        self.public = public = PublicApi(
            self.proxy,
            self.directory,
            new_id,
            own,
            tracing=self._tracing,
            observer=self.observers,
        )
        counted = GatewayServer(public.handle, observer=self.observers)
        self._public_port = Listener(counted, closing_seconds=CLOSE_SECONDS)
        tls = self.certificate.context if self.certificate else None
        self.url = await self._open(self._public_port, server.host, server.port, tls)
        admin = Listener(GatewayServer(self._admin_api().handle), closing_seconds=CLOSE_SECONDS)
        self.admin_url = await self._open(admin, server.admin_host, server.admin_port)

    def _admin_api(self) -> AdminApi:
        def tokens() -> AdminSettings:
            return self.settings.admin

        return AdminApi(
            self.metrics.registry,
            self._not_ready,
            tokens,
            self.admin_routes(),
            DocumentedPort(url=self.url, security=TEAM, routes=self.public.routes),
            wall=self._wall,
            pepper=self.pepper,
            new_id=new_id,
        )

    def admin_routes(self) -> list[AdminRoute]:
        """The routes of the admin API."""
        store = self.store
        features = (
            AdminTeams(store.directory, lambda: self.settings.models),
            AdminKeys(store.directory, self.pepper),
            AdminQuota(store, lambda: self.settings.limits),
            AdminUsage(store, self.flush),
            AdminOverview(store, self._flush_all),
            AdminCache(
                store.directory,
                self._answers,
                self.metrics.registry,
                lambda: self.settings,
                self.directory.refresh,
            ),
            AdminActivity(
                self.store, self._activity.flush, self._cache, self.directory, lambda: self.settings
            ),
            AdminConfig(lambda: self.settings, self.url),
            AdminAudit(store.audit),
            AdminAlerts(store.claims, lambda: self.settings),
        )
        return [route for feature in features for route in feature.routes()]

    async def _open(
        self, port: Listener, host: str, number: int, tls: ssl.SSLContext | None = None
    ) -> str:
        """Listen, and tell the URL. Raises StartError where that is not possible."""
        self._running.push_async_callback(port.close)
        try:
            return await port.open(host, number, tls)
        except OSError as error:
            raise StartError(why_not(error, host, number)) from None

    async def _read_gauges(self) -> None:
        self.metrics.begin_teams_at_zero(
            self.directory.teams, self.settings.limits, self.settings.models
        )
        teams = map(team_account, self.directory.teams)
        names = list(dict.fromkeys([GATEWAY, *teams, *self._gauges.with_holds()]))
        loaded = await self.store.accounts.load(names)
        accounts = [account for account, _ in loaded.accounts]
        self.observers.accounts_seen(dict(zip(names, accounts, strict=True)))

    async def _close_ledger(self) -> None:
        if not await self._ledger.close(CLOSE_SECONDS):
            log.error("outcomes not written: their holds will be swept and charged as unknown")

    async def _look_at_key(self) -> None:
        former = self.settings.upstream
        changed = await asyncio.to_thread(self._key_file.look, former)
        if changed is not None and self.settings.upstream is former:
            self.use(replace(self.settings, upstream=changed))
            log.info("upstream key changed")

    def _not_ready(self) -> str | None:
        if self.proxy.draining:
            return "draining"
        if self.directory.age > READY_SECONDS:
            return "store_unavailable"
        return None


def _bytes_of(bought: Bought) -> int:
    """What an answer takes in memory, with what is kept of its prompt."""
    prompt = bought.about.prompt if bought.about else None
    return len(bought.body) + (CHARACTER_BYTES * len(prompt) if prompt else 0)


def _with_upstream(settings: Settings) -> Settings:
    if not settings.upstream.base_url:
        raise StartError("No upstream is configured: set GATEWAY_UPSTREAM_BASE_URL.")
    try:
        return replace(settings, upstream=with_key(settings.upstream))
    except ValueError as error:
        raise StartError(f"The upstream key cannot be used: {error}.") from None


def _require_webhooks(settings: Settings) -> None:
    """Raise StartError where nobody could be told: whoever wrote it down relies on it."""
    for name, webhook in settings.alerts.webhooks.items():
        try:
            url_of(webhook)
            secret_of(webhook)
        except ValueError as error:
            raise StartError(f"The webhook {name} cannot be used: {error}.") from None


def _certificate(settings: Settings) -> Certificate | None:
    try:
        return certificate_of(settings.server)
    except ValueError as error:
        raise StartError(f"The certificate cannot be used: {error}.") from None


_ids = random.Random(secrets.randbits(256))  # noqa: S311 - asking the system each time takes 5 µs
"""Where ids come from. They are no secrets: only no two may be alike, here or elsewhere."""


def new_id() -> str:
    """An id never given before: 128 random bits as 32 hexadecimal digits."""
    return f"{_ids.getrandbits(128):032x}"
