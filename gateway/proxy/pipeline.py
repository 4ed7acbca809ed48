"""The path of one request, top to bottom.

    authenticate -> read the body -> parse it, fill in defaults, fingerprint it -> policy -> cache
    -> join or lead a flight -> elect the buyer among the gateways of a store -> hold quota
    -> upstream -> settle or release -> cache -> response

This file puts the steps in order and waits for them. Each decision is a pure function of its
subject; counting, logging and measuring belong to the observer. Errors are raised where they occur
and rendered once, in `gateway.web`.

Everything that costs money happens in `_buy`, which runs in a task of its own: a client that hangs
up ends its wait, never the purchase.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway.config.live import CurrentSettings
from gateway.config.settings import Settings
from gateway.core.errors import (
    Draining,
    GatewayError,
    InvalidRequest,
    LimitReached,
    NotCached,
    NotPermitted,
    Overloaded,
    UpstreamCut,
    UpstreamError,
)
from gateway.core.model import Bought, Caller
from gateway.core.single_flight import Flight, Flights
from gateway.proxy.cache_control import CacheStatus, cache_use, purchase_status, read_cache_control
from gateway.proxy.context import Context, ProxyRequest, ProxyResponse
from gateway.proxy.election import Election, FlightResult
from gateway.proxy.fingerprint import RequestMemo
from gateway.proxy.image_request import encode_body
from gateway.proxy.policy import check_policy
from gateway.proxy.url_expiry import keep_seconds
from gateway.quota.image_response import ImageResponse, read_response
from gateway.quota.ledger import Ledger, store_patience
from gateway.quota.pricing import charge
from gateway.quota.refusal import refusal_error
from gateway.quota.steps import Denied, Held, Release, Reserve
from gateway.telemetry.observer import NO_OBSERVER, Observer, measured_call
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.upstream.outcome import judge
from gateway.upstream.port import Reply, Upstream


@dataclass(eq=False)
class Proxy:
    """Serves image requests.

    `settings` returns those in force. `wall` is the clock in seconds since the epoch, `spread`
    gives randomness in [0, 1), `new_id` a new unique id. `amend` adds to an answer in memory the
    description that answers from a shared cache lack.
    """

    settings: CurrentSettings
    directory: Directory
    cache: BaseCache
    ledger: Ledger
    upstream: Upstream
    election: Election
    wall: Callable[[], float]
    spread: Callable[[], float]
    new_id: Callable[[], str]
    observer: Observer = NO_OBSERVER
    tracing: Tracing = NO_TRACING
    amend: Callable[[str, Bought], None] = lambda name, bought: None
    flights: Flights[FlightResult] = field(default_factory=Flights)
    draining: bool = False
    in_flight: int = 0
    _memo: RequestMemo = field(default_factory=RequestMemo)

    async def generate(self, incoming: ProxyRequest, record: RequestRecord) -> ProxyResponse:
        """Answer one request from the cache, a shared flight, or a purchase.

        Fills in `record` on the way. Raises GatewayError.
        """
        settings, started = self.settings(), perf_counter()
        caller = record.caller = await self.directory.authenticate(incoming.authorization)
        record.phase_ended("auth", started)
        try:
            # Before the slot is taken: clients that send slowly must not fill the gateway.
            with record.waiting():
                body = await incoming.read_body()
            return await self._serve(body, incoming.cache_control, caller, settings, record)
        except NotCached:  # a question that was answered, not a refusal
            raise
        except (InvalidRequest, NotPermitted, LimitReached):
            self.observer.request_refused(record)
            raise

    async def _serve(
        self,
        body: bytes,
        cache_control: Sequence[str],
        caller: Caller,
        settings: Settings,
        record: RequestRecord,
    ) -> ProxyResponse:
        """Read the request, look for its answer in the cache, and buy it if there is none."""
        if self.in_flight >= settings.server.max_in_flight:
            raise Overloaded
        self.in_flight += 1
        try:
            started = perf_counter()
            read = self._memo.read(body, caller.team, settings)
            record.request, record.labels = read.request, read.labels
            record.fingerprint = read.fingerprint
            # After the record has the request's labels: a refusal is counted under them.
            check_policy(caller.team, read.request)
            enabled = settings.cache.enabled and caller.team.cache
            cache = cache_use(read_cache_control(cache_control), enabled=enabled)
            at = self.wall()
            context = Context(caller, read.request, read.fingerprint, cache, settings, record, at)
            hit = await self._look_up(context)
            record.phase_ended("cache", started)
            if hit is not None:
                return hit
            if context.cache.only:
                raise NotCached
            return await self._fly(context)
        finally:
            self.in_flight -= 1

    async def _look_up(self, context: Context) -> ProxyResponse | None:
        """Return the cached answer, if there is one and the client accepts its age."""
        if not context.cache.read:
            return None
        cached: Bought | None = await self.cache.get(context.fingerprint)
        age = 0.0 if cached is None else max(0.0, self.wall() - cached.at)
        if cached is None or not context.cache.accepts(age):
            self.observer.cache_lookup("memory", "miss")
            return None
        # An answer from Redis was a miss in memory. Redis counts its own look-ups.
        self.observer.cache_lookup("memory", "hit" if cached.tier == "memory" else "miss")
        if cached.about is None:  # it came from Redis or from a snapshot, and is in memory now
            about = context.about
            self.amend(context.fingerprint, replace(cached, about=about, tier="memory"))
        self._serve_free(context, cached, "hit")
        return ProxyResponse(cached.body, CacheStatus.HIT, int(age))

    def _serve_free(self, context: Context, bought: Bought, outcome: str) -> None:
        """Record an answer that was not bought for this request."""
        record = context.record
        record.outcome, record.images, record.saved = outcome, bought.images, bought.cost
        self.observer.answer_ready(record)

    # -- flights --------------------------------------------------------------------------------

    async def _fly(self, context: Context) -> ProxyResponse:
        """Buy the answer, or wait for an identical purchase that is under way."""
        while True:
            flight = self._lead_or_join(context)
            try:
                result = await _result(flight, context.record)
                break
            except LimitReached as refusal:
                if flight.led or refusal.whose in (None, *context.limit_owners):
                    raise
                # A limit of another team or key does not concern this request: try again.
        bought = result.bought
        if flight.led and not result.free:
            return ProxyResponse(bought.body, purchase_status(context.cache, stored=bought.kept))
        self._serve_free(context, bought, "collapsed")
        return ProxyResponse(bought.body, CacheStatus.MISS_COLLAPSED)

    def _lead_or_join(self, context: Context) -> Flight[FlightResult]:
        """Return the flight of this answer. Raises Draining or Overloaded if none may start."""
        # A flight without a name joins none and cannot be joined: its client wants a new answer, or
        # the cache is off.
        name = context.fingerprint if context.cache.read else None
        if name and self.flights.under_way(name):
            self.observer.flight("follow")  # also in a drain: joining buys nothing
        elif self.draining:
            raise Draining
        # Purchases whose clients have left count, too.
        elif len(self.flights) >= context.settings.server.max_in_flight:
            raise Overloaded
        return self.flights.lead_or_join(name, lambda: self._lead(context))

    async def _lead(self, context: Context) -> FlightResult:
        """Buy, unless another gateway of the same store does: then share its answer or failure."""
        buy = partial(self._see_through, context)
        if not context.cache.read:
            return FlightResult(await buy())
        look = partial(self._look_again, context)
        return await self.election.buy_or_wait(context.fingerprint, context.record, look, buy)

    async def _look_again(self, context: Context) -> Bought | None:
        """Return the cached answer, which may have come since the first look-up."""
        cached: Bought | None = await self.cache.get(context.fingerprint)
        return cached if cached and context.accepts(cached, self.wall()) else None

    async def _see_through(self, context: Context) -> Bought:
        """Buy. If the client left, report the end of the purchase: its request ended long ago."""
        record = context.record
        try:
            return await self._buy(context)
        finally:
            if record.left:
                failure = sys.exception()
                if isinstance(failure, GatewayError):
                    record.outcome, record.code = failure.outcome, failure.code
                self.observer.late_purchase_ended(record, failure)

    # -- a purchase -----------------------------------------------------------------------------

    async def _buy(self, context: Context) -> Bought:
        """Hold quota, call the upstream once, settle or release, and cache the answer."""
        self.observer.flight("lead")
        request, record = context.request, context.record
        # Encoded before quota is held: a defect from then on is charged.
        body = encode_body(request)
        reservation = context.reservation(self.new_id())
        held = await self._hold(reservation, context)
        try:
            reply, answered = await self._call_upstream(body, context)
        except asyncio.CancelledError:  # the drain's time is up, and the call is under way
            await self._fail(reservation, held, record, UpstreamCut())
            raise UpstreamCut from None
        except Exception as failure:
            await self._fail(reservation, held, record, failure)
            raise
        cost = charge(context.settings.models[request.model], request, answered)
        record.outcome, record.images, record.cost = "miss", answered.images, cost
        self.observer.answer_ready(record)
        await self._settle(reservation, held, answered.images, cost)
        bought = Bought(body=reply.body, images=answered.images, cost=cost, at=self.wall())
        return await self._store(context, bought, answered)

    async def _hold(self, reservation: Reserve, context: Context) -> Held:
        """Hold quota for the purchase. Raises LimitReached, or StoreUnavailable."""
        record, started = context.record, perf_counter()
        with self.tracing.store("reserve"):
            held = await self.ledger.reserve(reservation, store_patience(record.own_seconds()))
        record.phase_ended("quota", started)
        record.rate_limits = held.rate_limits  # a refusal has them, too: its response shows them
        if isinstance(held, Denied):
            self.observer.purchase_refused(reservation.team, held.refusal)
            raise refusal_error(held.refusal, self.spread(), context.caller.key.id)
        return held

    async def _call_upstream(self, body: bytes, context: Context) -> tuple[Reply, ImageResponse]:
        """Call the upstream once. Raises UpstreamError unless it delivers images."""
        request, record, settings = context.request, context.record, context.settings.upstream
        with self.tracing.upstream(request, settings) as span:
            call = self.upstream.generate(body, record.id, settings, span.headers)
            reply = await measured_call(call, request.model, record, self.observer)
            judge(reply, [settings.key.encode()], self.wall())
            answered = read_response(reply.body)
            span.answered(answered.usage)
        return reply, answered

    async def _fail(
        self, reservation: Reserve, held: Held, record: RequestRecord, failure: Exception
    ) -> None:
        """Close a purchase without images: release it, or charge it if they may have been drawn."""
        self.observer.purchase_failed(record, failure)
        if isinstance(failure, UpstreamError) and not failure.charged:
            with self.tracing.store("release"):
                await self.ledger.finish(Release(id=reservation.id, team=reservation.team))
            return
        # A defect of the gateway is charged, too: the call may have been sent before it.
        record.images, record.cost = reservation.images, reservation.cost
        await self._settle(reservation, held, record.images, record.cost, unknown=True)

    async def _settle(
        self, reservation: Reserve, held: Held, images: int, cost: int, *, unknown: bool = False
    ) -> None:
        """Charge the purchase. Waits at most 2 s; the ledger goes on until that is written."""
        swept = self.wall() > held.at + reservation.lease
        self.observer.charged(reservation, cost, unknown=unknown, swept=swept)
        with self.tracing.store("settle"):
            await self.ledger.finish(reservation.settle(held.at, images, cost, unknown=unknown))

    async def _store(self, context: Context, bought: Bought, answered: ImageResponse) -> Bought:
        """Cache a complete answer, for no longer than its URLs work."""
        cache = context.settings.cache
        seconds = keep_seconds(answered.urls, self.wall(), cache.ttl_seconds, cache.url_ttl_seconds)
        if not context.cache.store or seconds <= 0 or answered.images < context.request.n:
            return bought
        kept = replace(bought, kept=True, about=context.about)
        stored = await self.cache.set(context.fingerprint, kept, ttl=seconds)
        return kept if stored else bought


async def _result(flight: Flight[FlightResult], record: RequestRecord) -> FlightResult:
    """Wait as long as the client does. A leader's waits are counted by its purchase."""
    try:
        with nullcontext() if flight.led else record.waiting():
            return await flight.result()
    except asyncio.CancelledError:
        record.left = True
        raise
