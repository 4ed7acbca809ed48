"""The path of one request, top to bottom.

    authenticate -> read the body -> parse it, fill in defaults, fingerprint it -> policy -> cache
    -> join or lead a flight -> elect the buyer among the gateways of a store -> hold quota
    -> upstream -> settle or release -> pictures -> cache -> response

This file puts the steps in order and waits for them. Each decision is a pure function of its
subject; counting, logging and measuring belong to the observer. Errors are raised where they occur
and rendered once, in `gateway.web`.

A request with a name claims it before it flies (`gateway.proxy.named`), and then goes the same way.

Everything that costs money happens in `_buy`, which runs in a task of its own: a client that hangs
up ends its wait, never the purchase.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway.config.live import CurrentSettings
from gateway.config.settings import Settings
from gateway.core.errors import (
    Draining,
    GatewayError,
    InvalidRequest,
    KeyDisabled,
    LimitReached,
    NotCached,
    NotPermitted,
    Overloaded,
    Unauthenticated,
)
from gateway.core.model import Bought, Caller
from gateway.core.single_flight import Flight, Flights
from gateway.core.upstream_errors import RepeatedUnknown, UpstreamCut, UpstreamError
from gateway.proxy.cache_control import CacheStatus, cache_use, read_cache_control, status_of
from gateway.proxy.context import (
    Accepted,
    Context,
    ProxyRequest,
    ProxyResponse,
    wanted_partials,
)
from gateway.proxy.election import Election, FlightResult
from gateway.proxy.fingerprint import RequestMemo
from gateway.proxy.holds import Holds, NameTaken
from gateway.proxy.image_request import encode_body
from gateway.proxy.named import NamedRequests, with_name
from gateway.proxy.operations import OpenOperations, Ticket, kept_failure
from gateway.proxy.past_failures import encode_failure
from gateway.proxy.pictures import Pictures, cache_seconds, lifetime
from gateway.proxy.policy import check_form, check_policy
from gateway.proxy.reply import read_reply, report_oddities
from gateway.quota.image_response import ImageResponse
from gateway.quota.ledger import Ledger
from gateway.quota.operations import KEEP_SECONDS
from gateway.quota.pricing import charge
from gateway.quota.steps import Held, Reserve
from gateway.telemetry.observer import NO_OBSERVER, Observer, measured_call
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.upstream.port import Reply, Upstream, Wanted

NAMES_SECONDS = 2.0
"""How long requests with a name take to note the end of their purchases."""


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
    operations: OpenOperations
    pictures: Pictures
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

    def __post_init__(self) -> None:
        self.holds = Holds(
            self.ledger, self.directory, self.wall, self.spread, self.observer, self.tracing
        )
        self.named = NamedRequests(self)

    async def generate(
        self, incoming: ProxyRequest, record: RequestRecord
    ) -> ProxyResponse | Accepted:
        """Answer one request from the cache, a shared flight, or a purchase.

        Fills in `record` on the way. Raises GatewayError.
        """
        settings, started = self.settings(), record.clock()
        caller = record.caller = await self.directory.authenticate(incoming.authorization)
        record.phase_ended("auth", started)
        try:
            # Before the slot is taken: clients that send slowly must not fill the gateway.
            with record.waiting():
                body = await incoming.read_body(caller)
            return await self._serve(body, incoming, caller, settings, record)
        except NotCached:  # a question that was answered, not a refusal
            raise
        except (InvalidRequest, NotPermitted, LimitReached):
            self.observer.request_refused(record)
            raise

    async def _serve(
        self,
        body: bytes,
        incoming: ProxyRequest,
        caller: Caller,
        settings: Settings,
        record: RequestRecord,
    ) -> ProxyResponse | Accepted:
        """Read the request, look for its answer in the cache, and buy it if there is none."""
        if self.in_flight >= settings.server.max_in_flight:
            raise Overloaded
        self.in_flight += 1
        try:
            started = record.clock()
            read = self._memo.read(body, caller.team, settings)
            record.request, record.labels = read.request, read.labels
            record.fingerprint = read.fingerprint
            # After the record has the request's labels: a refusal is counted under them.
            check_policy(caller.team, read.request)
            check_form(read.request, settings)
            if read.request.stream:
                incoming.on_stream()
            enabled = settings.cache.enabled and caller.team.cache
            control = read_cache_control(incoming.cache_control)
            context = Context(
                caller=caller,
                request=read.request,
                fingerprint=read.fingerprint,
                cache=cache_use(control, enabled=enabled),
                settings=settings,
                record=record,
                at=self.wall(),
                ticket=Ticket(record),
                fresh=control.fresh,
                is_retry=incoming.is_retry,
                origin=incoming.origin,
                on_partial=wanted_partials(read.request, incoming.on_partial),
            )
            context = with_name(context, incoming, self.new_id)
            cached = await self.look_up(context)
            record.phase_ended("cache", started)
            if context.name is not None:
                return await self.named.serve(context, context.name, cached)
            if cached is not None:
                return await self.show_hit(context, cached)
            if context.cache.only:
                raise NotCached
            return await self.answer(*await self.fly(context), context)
        finally:
            self.in_flight -= 1

    async def look_up(self, context: Context) -> Bought | None:
        """Return the cached answer, if there is one and the client accepts its age."""
        if not context.cache.read:
            return None
        cached: Bought | None = await self.cache.get(context.fingerprint)
        age = 0.0 if cached is None else max(0.0, self.wall() - cached.at)
        if cached is None or not context.cache.accepts(age):
            self.observer.cache_lookup("memory", "miss")
            return None
        # An answer from the second tier was a miss in memory. That tier counts its own look-ups.
        self.observer.cache_lookup("memory", "hit" if cached.tier == "memory" else "miss")
        if cached.about is None:  # it came from elsewhere, and is in memory now
            about = context.about
            self.amend(context.fingerprint, replace(cached, about=about, tier="memory"))
        return cached

    async def show_hit(self, context: Context, cached: Bought) -> ProxyResponse:
        """Answer with pictures that were bought before, for free."""
        self._serve_free(context, cached, "hit")
        body = await self.pictures.shown(cached, context)
        return ProxyResponse(body, CacheStatus.HIT, int(max(0.0, self.wall() - cached.at)))

    def _serve_free(self, context: Context, bought: Bought, outcome: str) -> None:
        """Record an answer that was not bought for this request."""
        record = context.record
        record.outcome, record.images, record.saved = outcome, bought.images, bought.cost
        self.observer.answer_ready(record)

    async def drain(self, seconds: float) -> None:
        """Wait for purchases in flight for so long, then cancel the rest."""
        await self.flights.drain(seconds)
        await self.named.flights.drain(NAMES_SECONDS)
        await self.named.answers.leave_latest()

    # -- flights --------------------------------------------------------------------------------

    async def fly(self, context: Context) -> tuple[Flight[FlightResult], FlightResult]:
        """Buy the answer, or wait for an identical purchase that is under way."""
        while True:
            flight = self._lead_or_join(context)
            if not flight.led:
                context.decide()
            try:
                return flight, await self._result(flight, context)
            except LimitReached as refusal:
                if flight.led or refusal.whose in (None, *context.limit_owners):
                    raise
                # A limit of another team or key does not concern this request: try again.
            except RepeatedUnknown as repeat:
                if flight.led or repeat.record == context.operations_name:
                    raise  # else it was another key, or another end user
            except (Unauthenticated, KeyDisabled, NameTaken):
                if flight.led:
                    raise  # else it was another key that no longer works, or a name: try again

    async def answer(
        self, flight: Flight[FlightResult], result: FlightResult, context: Context
    ) -> ProxyResponse:
        """The answer of a flight, in the form that the client reads."""
        bought, ticket = result.bought, context.ticket
        is_open = ticket.operation is not None and not ticket.is_over
        sent = partial(self.operations.sent, ticket) if is_open else None
        if free := result.free or ticket.claims or not flight.led:
            self._serve_free(context, bought, "collapsed")
        status = status_of(context.cache, stored=bought.kept, collapsed=free)
        try:
            body = await self.pictures.shown(bought, context)
        except asyncio.CancelledError:  # the client left
            if sent is not None:
                sent(False)
            raise
        return ProxyResponse(body, status, sent=sent)

    async def _result(self, flight: Flight[FlightResult], context: Context) -> FlightResult:
        """Wait as long as the client does. A leader's waits are counted by its purchase."""
        record = context.record
        try:
            with nullcontext() if flight.led else record.waiting():
                return await flight.result()
        except asyncio.CancelledError:
            record.left = True
            if flight.led:
                self.operations.left(context.ticket)
            raise

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
            return await self._buy_or_take_over(context)
        except BaseException as failure:
            self.operations.failed(context.ticket, failure)
            raise
        finally:
            if record.left and not context.ticket.claims:
                ended = sys.exception()
                if isinstance(ended, GatewayError):
                    record.failed(ended)
                self.observer.late_purchase_ended(record, ended)

    # -- a purchase -----------------------------------------------------------------------------

    async def _buy_or_take_over(self, context: Context) -> Bought:
        """Buy the answer, or take over an equal purchase that no client waits for any more."""
        # Encoded before quota is held: a defect from then on is charged.
        body = encode_body(context.request)
        operations, gone = self.operations, frozenset[str]()
        while True:
            id = context.purchase_id(self.new_id)
            reservation = context.reservation(id, operations, gone)
            if sending := operations.ask(context.ticket, reservation):
                return sending
            held = await self.holds.take(reservation, context)
            if isinstance(held, Held):
                return await self._buy(body, reservation, held, context)
            found = held.found.operation
            bought = await operations.take_over(context.ticket, found)
            if bought is not None:
                self.observer.flight("follow")
                return bought
            if context.record.left and not context.cache.read:
                raise Draining  # nobody waits
            gone |= {found.id}  # its answer was lost

    async def _buy(self, body: bytes, reservation: Reserve, held: Held, context: Context) -> Bought:
        """Call the upstream once, settle or release the hold, and cache the answer."""
        self.observer.flight("lead")
        request, record, ticket = context.request, context.record, context.ticket
        self.operations.begin(ticket, reservation, held.at)
        try:
            reply, answered = await self._call_upstream(body, context)
        except asyncio.CancelledError:  # the drain's time is up, and the call is under way
            await self._fail(reservation, held, record, UpstreamCut())
            raise UpstreamCut from None
        except Exception as failure:
            await self._fail(reservation, held, record, failure)
            raise
        model = context.settings.models[request.model]
        cost = charge(model, request, answered)
        record.outcome, record.images, record.cost = "miss", answered.images, cost
        report_oddities(model, request, answered, record, self.observer)
        self.observer.answer_ready(record)
        body = answered.reencoded or reply.body
        bought = Bought(body=body, images=answered.images, cost=cost, at=self.wall())
        seconds = cache_seconds(bought, answered, context, bought.at)
        cached = context.cache.read and seconds > 0 and self.election.cache_is_shared()
        if not cached:
            self.operations.answered(ticket)
        noted = await self.holds.settle(reservation, held, answered.images, cost, cached=cached)
        bought = await self.pictures.complete(bought, answered, context)
        seconds = cache_seconds(bought, answered, context, self.wall())
        bought = await self._store(context, bought, seconds)
        self.observer.pictures_bought(reservation, record.id, cost, bought.body)
        await self.named.answers.keep(context, bought, answered)
        lasts = lifetime(bought, answered, KEEP_SECONDS, context, self.wall())
        self.operations.bought(ticket, bought, noted, lasts, is_found=cached and bought.kept)
        return bought

    async def _call_upstream(self, body: bytes, context: Context) -> tuple[Reply, ImageResponse]:
        """Call the upstream once. Raises UpstreamError unless it delivers images."""
        request, record, settings = context.request, context.record, context.settings.upstream
        wanted = Wanted(request.n, request.n * request.partial_images, context.on_partial)
        with self.tracing.upstream(request, settings) as span:
            call = self.upstream.generate(body, record.id, settings, span.headers, wanted)
            reply = await measured_call(call, request.model, record, self.observer)
            answered = await read_reply(reply, settings, self.wall())
            span.answered(answered.usage)
        return reply, answered

    async def _fail(
        self, reservation: Reserve, held: Held, record: RequestRecord, failure: Exception
    ) -> None:
        """Close a purchase without images: release it, or charge it if they may have been drawn."""
        self.observer.purchase_failed(record, failure)
        if isinstance(failure, UpstreamError) and not failure.charged:
            await self.holds.release(reservation, encode_failure(failure, record))
            return
        # A defect of the gateway is charged, too: the call may have been sent before it.
        images, cost = record.images, record.cost = reservation.images, reservation.cost
        kept = kept_failure(failure, record)
        await self.holds.settle(reservation, held, images, cost, unknown=True, failure=kept)

    async def _store(self, context: Context, bought: Bought, seconds: float) -> Bought:
        """Cache an answer, if that may be done at all."""
        if seconds <= 0:
            return bought
        kept = replace(bought, kept=True, about=context.about)
        stored = await self.cache.set(context.fingerprint, kept, ttl=seconds)
        return kept if stored else bought
