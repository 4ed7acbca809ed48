"""The path of one request, top to bottom.

    authenticate -> read the body -> parse and fill defaults -> policy -> fingerprint -> cache
    -> join or lead a flight -> be elected to buy, or wait for another gateway -> hold quota
    -> upstream -> settle (or release) -> keep -> answer

Decisions are pure functions in `gateway.core`; this file only puts them in order and waits.
Errors are raised wherever they arise and rendered once, in `gateway.web`.

What costs money happens in `_buy`, which runs in a task of its own: a client that hangs up leaves
its wait, never the purchase.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter

import structlog
from aiocache.base import BaseCache
from msgspec import Struct
from msgspec.structs import replace

from gateway.config.models import quality_label
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
from gateway.core.model import About, Bought, Caller, ImageRequest
from gateway.core.single_flight import Flight, Flights
from gateway.proxy.cache_control import CacheControl, read_cache_control
from gateway.proxy.cache_status import CacheStatus
from gateway.proxy.election import Alone, Candidate, Elections
from gateway.proxy.fingerprint import scope_of
from gateway.proxy.image_request import encode_body
from gateway.proxy.policy import check_policy
from gateway.proxy.request_memo import Reading, Readings
from gateway.proxy.url_expiry import keep_seconds
from gateway.quota.image_response import Answered, read_answer
from gateway.quota.ledger import PATIENCE_SECONDS, Ledger
from gateway.quota.pricing import ceiling, charge
from gateway.quota.refusal import refusal_error
from gateway.quota.steps import Held, Refused, Release, Reserve, Settle
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import UNTRACED, Tracing
from gateway.tenants.directory import Directory
from gateway.upstream.outcome import judge
from gateway.upstream.port import Reply, Upstream

log = structlog.get_logger(source="proxy")

LEASE_SLACK_SECONDS = 5.0
"""How much longer than the upstream's deadline a hold lives before anybody may sweep it."""

LEAST_PATIENCE_SECONDS = 1.0
"""What a step before the purchase may wait for the store, however long the others took."""


PROMPT_CHARACTERS = 200
"""What is kept of a prompt beside its answer, if any of it is."""

REFUSALS = (InvalidRequest, NotPermitted, LimitReached)
"""What ends a request of a known caller before anything is bought, by its own fault or limits."""


class Call(Struct, frozen=True):
    """A request as it arrived: the header lines that matter, and its body, still to be read."""

    authorization: Sequence[str]
    cache_control: Sequence[str]
    read_body: Callable[[], Awaitable[bytes]]


class Answer(Struct, frozen=True):
    """What the client gets: a 200's body, and how it came about for the Cache-Status header."""

    body: bytes
    cache_status: CacheStatus
    age: int | None = None


class Purchase(Struct, frozen=True):
    """One request that may have to be bought. `keep`: store the answer; `share`: look for it in
    the cache and among the flights first; `bypass`: the cache is off, here or for this team.
    `settings` are those that the request began with: a reload changes nothing under way. `at` is
    when it came; a kept answer of `max_age` seconds or more is too old for it.
    """

    caller: Caller
    request: ImageRequest
    fingerprint: str
    keep: bool
    share: bool
    bypass: bool
    settings: Settings
    record: RequestRecord
    at: float
    max_age: int | None


class Landed(Struct, frozen=True):
    """What a flight brings. `free`: it found another one's purchase instead of buying."""

    bought: Bought
    free: bool = False


class Proxy:
    """The gateway's main job over its parts.

    `settings` may be replaced at any time; each request keeps those that it began with. `wall`
    tells the time, `spread` gives randomness in [0, 1), `new_id` an id never given before.
    `observer` receives all events. `amend` puts into memory what an answer from elsewhere lacks.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        directory: Directory,
        cache: BaseCache,
        ledger: Ledger,
        upstream: Upstream,
        elections: Elections | Alone,
        wall: Callable[[], float],
        spread: Callable[[], float],
        new_id: Callable[[], str],
        tracing: Tracing = UNTRACED,
        observer: Observer = NO_OBSERVER,
        amend: Callable[[str, Bought], None] = lambda name, bought: None,
    ) -> None:
        self.settings = settings
        self._readings = Readings(settings)
        self.flights: Flights[Landed] = Flights()
        self.draining = False
        self._directory = directory
        self._cache = cache
        self._ledger = ledger
        self._upstream = upstream
        self._elections = elections
        self._observer = observer
        self._wall = wall
        self._spread = spread
        self._new_id = new_id
        self._tracing = tracing
        self._amend = amend
        self.in_flight = 0

    async def generate(self, call: Call, record: RequestRecord) -> Answer:
        """Answer one generation request, from the cache, a shared flight, or a purchase.

        Fills in `record` on the way. Raises GatewayError.
        """
        settings = self.settings
        caller = record.caller = await self._directory.authenticate(call.authorization)
        record.lap("auth")
        try:
            return await self._generate(call, caller, settings, record)
        except REFUSALS as refusal:
            if not isinstance(refusal, NotCached):
                self._observer.request_refused(record)
            raise

    async def _generate(
        self, call: Call, caller: Caller, settings: Settings, record: RequestRecord
    ) -> Answer:
        # Before the slot is taken: clients that send slowly must not fill the gateway.
        body = await _read_body(call, record)
        if self.in_flight >= settings.server.max_in_flight:
            raise Overloaded
        self.in_flight += 1
        try:
            reading = self._read(body, caller, settings)
            record.request, record.labels = reading.request, reading.labels
            record.fingerprint = reading.fingerprint
            check_policy(caller.team, reading.request)
            wish = read_cache_control(call.cache_control)
            purchase = self._purchase(caller, reading, wish, settings, record)
            hit = await self._look_up(purchase)
            record.lap("cache")
            if hit is not None:
                return hit
            if wish.only_if_cached:
                raise NotCached
            return await self._fly(purchase)
        finally:
            self.in_flight -= 1

    def _read(self, body: bytes, caller: Caller, settings: Settings) -> Reading:
        if self._readings.settings is not settings:
            self._readings = Readings(settings)
        return self._readings.read(body, caller.team)

    def _purchase(
        self,
        caller: Caller,
        reading: Reading,
        wish: CacheControl,
        settings: Settings,
        record: RequestRecord,
    ) -> Purchase:
        cached = settings.cache.enabled and caller.team.cache
        return Purchase(
            caller,
            reading.request,
            reading.fingerprint,
            keep=cached and not wish.no_store,
            share=cached and not (wish.no_cache or wish.no_store),
            bypass=not cached,
            settings=settings,
            record=record,
            at=self._wall(),
            max_age=wish.max_age,
        )

    async def _look_up(self, purchase: Purchase) -> Answer | None:
        """The kept answer, if there is one and the client takes it at its age."""
        if not purchase.share:
            return None
        kept = await self._kept(purchase)
        age = 0.0 if kept is None else max(0.0, self._wall() - kept.at)
        # Not by the whole seconds of Age: a max-age of 0 must never find anything.
        if kept is None or (purchase.max_age is not None and age >= purchase.max_age):
            self._observer.cache_lookup("memory", "miss")
            return None
        self._observer.cache_lookup("memory", "hit" if kept.tier == "memory" else "miss")
        if kept.about is None:
            self._amend(purchase.fingerprint, replace(kept, about=_about(purchase), tier="memory"))
        self._given(purchase, kept, "hit")
        return Answer(kept.body, CacheStatus.HIT, int(age))

    async def _kept(self, purchase: Purchase) -> Bought | None:
        kept: Bought | None = await self._cache.get(purchase.fingerprint)
        return kept

    async def _fly(self, purchase: Purchase) -> Answer:
        """Buy the answer, or wait for the same one being bought already."""
        while True:
            flight = self._lead_or_join(purchase)
            try:
                landed = await self._wait(flight, purchase.record)
                break
            except LimitReached as refusal:
                if flight.led or refusal.whose in (None, *_owned(purchase.caller)):
                    raise
                # Another team's or key's limit is nothing to this one.
        bought = landed.bought
        if flight.led and not landed.free:
            return Answer(bought.body, _cache_status(purchase, bought))
        self._given(purchase, bought, "collapsed")
        return Answer(bought.body, CacheStatus.MISS_COLLAPSED)

    def _lead_or_join(self, purchase: Purchase) -> Flight[Landed]:
        """The flight that brings this purchase's answer. Raises where none may start."""
        name = purchase.fingerprint if purchase.share else None
        if name and self.flights.under_way(name):
            self._observer.flight("follow")
        else:
            self._check_room(purchase.settings)
        return self.flights.lead_or_join(name, lambda: self._land(purchase))

    async def _wait(self, flight: Flight[Landed], record: RequestRecord) -> Landed:
        """The flight's result, as long as the client waits for it."""
        started = perf_counter()
        try:
            return await flight.result()
        except asyncio.CancelledError:
            record.left = True
            raise
        finally:
            if record.left or not flight.led:
                record.waited += perf_counter() - started

    async def _land(self, purchase: Purchase) -> Landed:
        """Buy, unless another gateway of the same store does: then its answer, or its failure.

        Whoever waited for another one, or is elected to buy, looks into the cache before: the
        answer may have come since `_look_up` looked there.
        """
        if not purchase.share:
            return Landed(await self._see_through(purchase))
        with self._elections.stand(purchase.fingerprint) as candidate:
            while True:
                elected = await self._elected(candidate, purchase.record)
                found = candidate.handed_over or await self._come_since(purchase)
                if found is not None:
                    return Landed(found, free=True)
                if elected:
                    return Landed(await candidate.tell(self._see_through(purchase)))

    async def _elected(self, candidate: Candidate | Alone, record: RequestRecord) -> bool:
        """Whether to buy; the time spent on another gateway's purchase is not our own."""
        started = perf_counter()
        elected = await candidate.elected(_patience(record))
        if not elected:
            record.waited += perf_counter() - started
        return elected

    async def _come_since(self, purchase: Purchase) -> Bought | None:
        """The kept answer, if the client takes it: one bought since it asked is never too old."""
        kept = await self._kept(purchase)
        if kept is None or purchase.max_age is None or kept.at >= purchase.at:
            return kept
        return kept if self._wall() - kept.at < purchase.max_age else None

    async def _see_through(self, purchase: Purchase) -> Bought:
        """Buy, and log what came of it if the client has left: its own line was too early."""
        record = purchase.record
        try:
            return await self._buy(purchase)
        finally:
            if record.left:
                failure = sys.exception()
                if isinstance(failure, GatewayError):
                    record.outcome, record.code = failure.outcome, failure.code
                self._observer.late_purchase_ended(record, failure)

    def _check_room(self, settings: Settings) -> None:
        """Raise where no flight may start. Those whose clients have left still take room."""
        if self.draining:
            raise Draining
        if len(self.flights) >= settings.server.max_in_flight:
            raise Overloaded

    async def _buy(self, purchase: Purchase) -> Bought:
        """Hold quota, ask the upstream once, settle what came of it, keep the answer."""
        request, record = purchase.request, purchase.record
        self._observer.flight("lead")
        body = encode_body(request)
        reservation = self._reservation(purchase)
        with self._tracing.store("reserve"):
            held = await self._ledger.reserve(reservation, _patience(record))
        record.lap("quota")
        record.standing = held.standing
        if isinstance(held, Refused):
            self._observer.purchase_refused(purchase.caller.team.name, held.refusal)
            raise refusal_error(held.refusal, self._spread(), purchase.caller.key.id)
        try:
            with self._tracing.upstream(request, purchase.settings.upstream) as span:
                reply = await self._ask(body, purchase, span.headers)
                judge(reply, [purchase.settings.upstream.key.encode()], self._wall())
                answered = read_answer(reply.body)
                span.answered(answered.usage)
        except UpstreamError as error:
            self._observer.upstream_failed(error)
            await self._failed(reservation, held, record, charged=error.charged)
            raise
        except asyncio.CancelledError:  # the drain's time is up, and the call is under way
            await self._failed(reservation, held, record, charged=True)
            raise UpstreamCut from None
        except Exception as defect:  # ours, after the call may have been sent
            log.exception("purchase failed", id=record.id, exc_info=defect)
            await self._failed(reservation, held, record, charged=True)
            raise
        bought = await self._settle(reservation, held, purchase, reply, answered)
        return await self._keep(purchase, bought, answered)

    def _reservation(self, purchase: Purchase) -> Reserve:
        settings, request, caller = purchase.settings, purchase.request, purchase.caller
        return Reserve(
            id=self._new_id(),
            team=caller.team.name,
            key=caller.key.line,
            model=request.model,
            size=request.size,
            quality=quality_label(request.quality),
            images=request.n,
            cost=ceiling(settings.models[request.model], request),
            lease=settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS,
            limits=caller.team.limits,
            key_limits=caller.key.limits,
            gateway_limits=settings.limits,
        )

    async def _ask(self, body: bytes, purchase: Purchase, trace: Mapping[str, str]) -> Reply:
        """The one call to the upstream, measured."""
        record, started, status = purchase.record, perf_counter(), "failed"
        try:
            upstream = purchase.settings.upstream
            reply = await self._upstream.generate(body, record.id, upstream, trace)
            status = str(reply.status)
            return reply
        except UpstreamError as error:
            status = error.code
            raise
        finally:
            record.upstream = perf_counter() - started
            record.waited += record.upstream
            self._observer.upstream_call_ended(purchase.request.model, status, record.upstream)

    async def _settle(
        self,
        reservation: Reserve,
        held: Held,
        purchase: Purchase,
        reply: Reply,
        answered: Answered,
    ) -> Bought:
        """Charge what was delivered; the answer waits at most 2 s for that to be written."""
        request, record = purchase.request, purchase.record
        model = purchase.settings.models[request.model]
        cost = charge(model, request, answered)
        record.outcome, record.images, record.cost = "miss", answered.images, cost
        self._charged(reservation, held, cost, unknown=False)
        self._observer.answer_ready(record)
        await self._finish(reservation.settle(held.at, answered.images, cost))
        return Bought(body=reply.body, images=answered.images, cost=cost, at=self._wall())

    async def _failed(
        self, reservation: Reserve, held: Held, record: RequestRecord, *, charged: bool
    ) -> None:
        """Close a purchase that brought nothing: free, or charged because nobody can tell."""
        if not charged:
            await self._finish(Release(id=reservation.id, team=reservation.team))
            return
        record.images, record.cost = reservation.images, reservation.cost
        self._charged(reservation, held, reservation.cost, unknown=True)
        images, cost = reservation.images, reservation.cost
        await self._finish(reservation.settle(held.at, images, cost, unknown=True))

    def _charged(self, reservation: Reserve, held: Held, cost: int, *, unknown: bool) -> None:
        swept = self._wall() > held.at + reservation.lease
        self._observer.charged(reservation, cost, unknown=unknown, swept=swept)

    async def _finish(self, step: Settle | Release) -> None:
        with self._tracing.store("release" if isinstance(step, Release) else "settle"):
            await self._ledger.finish(step)

    async def _keep(self, purchase: Purchase, bought: Bought, answered: Answered) -> Bought:
        """Put a whole answer into the cache, for no longer than its pictures can be opened."""
        cache = purchase.settings.cache
        seconds = keep_seconds(
            answered.urls, self._wall(), cache.ttl_seconds, cache.url_ttl_seconds
        )
        if not purchase.keep or seconds <= 0 or answered.images < purchase.request.n:
            return bought
        kept = replace(bought, kept=True, about=_about(purchase))
        stored = await self._cache.set(purchase.fingerprint, kept, ttl=seconds)
        return kept if stored else bought

    def _given(self, purchase: Purchase, bought: Bought, outcome: str) -> None:
        """Record an answer that cost nothing: a hit, or a flight that another request leads."""
        record = purchase.record
        record.outcome, record.images, record.saved = outcome, bought.images, bought.cost
        self._observer.answer_ready(record)


def _owned(caller: Caller) -> tuple[tuple[str, str], ...]:
    """Whose limits are the caller's own."""
    return ("key", caller.key.line), ("team", caller.team.name)


def _about(purchase: Purchase) -> About:
    """What an answer to this is about; with the prompt only where that may be shown."""
    request, team, settings = purchase.request, purchase.caller.team, purchase.settings
    return About(
        scope=scope_of(team, settings),
        team=team.name,
        model=request.model,
        size=request.size,
        quality=quality_label(request.quality),
        prompt=request.prompt[:PROMPT_CHARACTERS] if settings.admin.show_prompts else None,
    )


def _patience(record: RequestRecord) -> float:
    """Seconds that the next step may wait for the store, of the 2 that all of them have."""
    own = perf_counter() - record.started - record.waited
    return max(LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS - own)


async def _read_body(call: Call, record: RequestRecord) -> bytes:
    """The body; the time it took to come is the client's, even where it never came whole."""
    started = perf_counter()
    try:
        return await call.read_body()
    finally:
        record.waited += perf_counter() - started
        record.lap(None)


def _cache_status(purchase: Purchase, bought: Bought) -> CacheStatus:
    if purchase.bypass:
        return CacheStatus.BYPASS
    if purchase.share:
        return CacheStatus.MISS_STORED if bought.kept else CacheStatus.MISS
    return CacheStatus.REQUEST_STORED if bought.kept else CacheStatus.REQUEST
