"""Requests with a name: all requests of a team under it get what the first one got, for a day.

A request claims its name in the store, then it is served like any other: from the cache, by joining
a purchase, or by one of its own. What it got is noted under the name. The claim goes first:

1. *Two requests of one name, at whatever gateways.* One has the name; the others wait for it.
2. *A gateway dies.* A name that was only claimed is free again, for nothing was bought under it.
   One whose purchase was reserved is unknown, and stays so.
3. *A gateway stands still after the claim, and another one takes the name.* The reservation looks
   at the name again, so only one of them buys.

The answer of a purchase under a name is in the cache once more, under a name that no other request
has. An answer that came from the cache, or from another purchase, is only referred to: who asks for
free must not fill the cache. Gateways without a shared cache ask each other for these answers.
"""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Protocol

from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway.core.errors import (
    GatewayError,
    IdempotencyKeyReused,
    InternalError,
    ResultExpired,
    StoreUnavailable,
)
from gateway.core.model import Bought
from gateway.core.periods import utc
from gateway.core.single_flight import Flight, Flights
from gateway.core.upstream_errors import RepeatedUnknown, UpstreamError, UpstreamUnknown
from gateway.proxy.context import Context, ProxyRequest, ProxyResponse
from gateway.proxy.election import Election, FlightResult
from gateway.proxy.fingerprint import body_digest, scope_of
from gateway.proxy.holds import NameTaken
from gateway.proxy.leases import Lease, Leases, decode_message
from gateway.proxy.operation_name import (
    OperationName,
    key_id,
    operation_name,
    read_idempotency_key,
)
from gateway.proxy.operations import (
    AGAIN_SECONDS,
    GONE_SECONDS,
    LOOK_SECONDS,
    OpenOperations,
    kept_failure,
)
from gateway.proxy.pictures import lifetime
from gateway.quota.image_response import ImageResponse
from gateway.quota.ledger import Ledger, store_patience
from gateway.quota.named import Answered, CachedAs, Claim, Unanswered
from gateway.quota.operations import GONE, NAMED_SECONDS, Operation

SAME_SECONDS = 2.0
"""How much the times of one answer may differ: replicas read them by clocks that differ."""

MOST_HANDED = 16
"""Answers that are handed over to other gateways at the same time."""


class Path(Protocol):
    """The path of requests without a name: see `Proxy`."""

    cache: BaseCache
    ledger: Ledger
    election: Election
    operations: OpenOperations

    @property
    def wall(self) -> Callable[[], float]:
        """The clock, in seconds since the epoch."""

    @property
    def new_id(self) -> Callable[[], str]:
        """Returns a new unique id."""

    async def look_up(self, context: Context) -> Bought | None:
        """Return the cached answer."""

    async def show_hit(self, context: Context, cached: Bought) -> ProxyResponse:
        """Answer with it."""

    async def fly(self, context: Context) -> tuple[Flight[FlightResult], FlightResult]:
        """Buy the answer, or wait for an equal purchase."""

    async def answer(
        self, flight: Flight[FlightResult], result: FlightResult, context: Context
    ) -> ProxyResponse:
        """Answer with what a flight brought."""


def with_name(context: Context, incoming: ProxyRequest) -> Context:
    """Add the name of the request's operation, if it has one. Raises InvalidRequest.

    With `only-if-cached` nothing is bought, so there is nothing to name.
    """
    key = read_idempotency_key(incoming.idempotency_key)
    if key is None or context.cache.only:
        return context
    team = context.caller.team
    scope, digest = scope_of(team, context.settings), body_digest(context.request)
    return replace(context, name=operation_name(key_id(key), team.name, scope, digest))


class NamedRequests:
    """Serves requests that have a name."""

    def __init__(self, path: Path) -> None:
        self.flights = Flights[FlightResult]()
        self._path = path
        self._handed = set[str]()
        path.election.on_wanted = self._wanted

    async def serve(
        self, context: Context, name: OperationName, cached: Bought | None
    ) -> ProxyResponse:
        """Answer with what the first request of its name got, or with `cached`, or buy."""
        path = self._path
        while True:
            name = replace(name, operation=context.record.purchase_id(path.new_id))
            context = replace(context, name=name)
            try:
                held = await self._claim(context, name, cached)
            except StoreUnavailable:
                if cached is None:
                    raise
                return await path.show_hit(context, cached)  # free, but its name is not noted
            if held.body != name.body:
                raise IdempotencyKeyReused
            is_ours = held.id == name.operation
            if is_ours and cached is not None:
                return await path.show_hit(context, cached)
            if not held.is_open:
                return await self._again(context, name, held)
            with suppress(NameTaken):
                if is_ours or self.flights.under_way(held.id):
                    return await self._share(context, name, held.id)
                await self._wait(context, name)
            cached = await path.look_up(context)

    async def _claim(
        self, context: Context, name: OperationName, cached: Bought | None
    ) -> Operation:
        found = None
        if cached is not None:
            found = CachedAs(context.fingerprint, len(cached.body), cached.at, name.scope)
        path, record, started = self._path, context.record, context.record.clock()
        wish = context.wish(path.operations)
        step = Claim(id=name.operation, wish=wish, lease=context.lease_seconds, cached=found)
        held = await path.ledger.claim(step, store_patience(record.own_seconds()))
        record.phase_ended("name", started)
        return held

    # -- an operation that is under way ---------------------------------------------------------

    async def _share(self, context: Context, name: OperationName, id: str) -> ProxyResponse:
        """Lead the flight of this operation, or join it. No client owns it."""
        flight = self.flights.lead_or_join(id, lambda: self._see_through(context, name))
        record = context.record
        try:
            with nullcontext() if flight.led else record.waiting():
                result = await flight.result()
        except asyncio.CancelledError:
            record.left = True
            raise
        return await self._path.answer(flight, result, context)

    async def _see_through(self, context: Context, name: OperationName) -> FlightResult:
        with self._path.operations.alive(context.ticket):
            try:
                flight, result = await self._path.fly(context)
            except BaseException as failure:
                self._failed(context, name, failure)
                raise
            free = result.free or not flight.led
            if free:
                await self._refer(context, name, result.bought)
            return FlightResult(result.bought, free)

    def _failed(self, context: Context, name: OperationName, failure: BaseException) -> None:
        """Give the name up, unless a purchase that may have been made has failed."""
        kept = b""
        if isinstance(failure, Exception):
            is_known = isinstance(failure, GatewayError) and not isinstance(failure, InternalError)
            if not is_known or (isinstance(failure, UpstreamError) and failure.charged):
                kept = kept_failure(failure, context.record)
        # A purchase of its own has noted its end: then this step changes nothing.
        step = Unanswered(record=name.record, id=name.operation, failure=kept)
        self._path.ledger.note(step)

    async def _wait(self, context: Context, name: OperationName) -> None:
        """Wait until another gateway's operation has ended. Raises StoreUnavailable."""
        path = self._path
        with context.record.waiting():
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                found = await path.ledger.operation(name.record, None, path.operations.gateway)
                if found is None or not found.is_open:
                    return

    # -- an operation that has ended ------------------------------------------------------------

    async def _again(self, context: Context, name: OperationName, held: Operation) -> ProxyResponse:
        """Answer as the operation was answered. Raises RepeatedUnknown or ResultExpired."""
        if held.state == "unknown":
            raise unknown_error(held, name.record)
        bought = await self._kept(held, name.scope)
        return await self._path.show_hit(context, bought)

    async def _kept(self, held: Operation, scope: str) -> Bought:
        """Return the answer of an operation, from wherever it is kept. Raises ResultExpired."""
        bought = None
        if held.answer != GONE and held.scope == scope:  # else the team's answers were purged
            bought = await self._found(held)
        if bought is None:
            raise ResultExpired
        return bought

    async def _found(self, held: Operation) -> Bought | None:
        path = self._path
        found: Bought | None = await path.cache.get(held.answer)
        if found is not None and _is_same(found, held):
            return found
        leases = path.election.leases
        if leases is None or path.election.cache_is_shared():
            return None
        with suppress(StoreUnavailable):
            return await self._from_afar(leases, held)
        return None

    async def keep(self, context: Context, bought: Bought, answered: ImageResponse) -> None:
        """Keep the answer of a purchase under its name, if it has one."""
        if context.name is not None:
            seconds = lifetime(bought, answered, NAMED_SECONDS, context, self._path.wall())
            await self._copy(context.name, bought, seconds)

    async def _copy(self, name: OperationName, bought: Bought, seconds: float) -> None:
        answer = GONE
        if seconds > 0:
            copy = replace(bought, kept=True, about=None)
            if await self._path.cache.set(name.answer, copy, ttl=seconds):
                answer = name.answer
        self._note(name, answer, bought)

    async def _refer(self, context: Context, name: OperationName, bought: Bought) -> None:
        """Note which answer it got that was not bought for it."""
        found: Bought | None = await self._path.cache.get(context.fingerprint)
        if found is not None and found.at == bought.at:
            self._note(name, context.fingerprint, bought)
            return
        # It was handed over, or the cache does not take it.
        ends = [picture.until for picture in bought.pictures if picture.has_url]
        until = min(ends, default=bought.at + NAMED_SECONDS)
        await self._copy(name, bought, min(NAMED_SECONDS, until - self._path.wall()))

    def _note(self, name: OperationName, answer: str, bought: Bought) -> None:
        cached = CachedAs(answer, len(bought.body), bought.at, name.scope)
        step = Answered(record=name.record, id=name.operation, cached=cached)
        self._path.ledger.note(step)

    # -- gateways without a shared cache --------------------------------------------------------

    async def _from_afar(self, leases: Leases, held: Operation) -> Bought | None:
        """Ask the other gateways for an answer. Raises StoreUnavailable."""
        now = asyncio.get_running_loop().time
        until = now() + GONE_SECONDS
        while now() < until:
            found = await leases.handed_over(Lease(held.answer, held.answer))
            if found is not None and _is_same(found, held):
                ttl = max(1.0, held.ends - self._path.wall())
                await self._path.cache.set(held.answer, found, ttl=ttl)
                return found
            await self._path.election.ask_for(held.answer)
            await asyncio.sleep(LOOK_SECONDS)
        return None

    def _wanted(self, answer: str) -> None:
        """Another gateway asks for an answer."""
        if answer not in self._handed and len(self._handed) < MOST_HANDED:
            self._handed.add(answer)
            self._path.operations.background.spawn(self._hand_over(answer))

    async def _hand_over(self, answer: str) -> None:
        try:
            leases, found = self._path.election.leases, await self._path.cache.look(answer)
            if leases is None or found is None:
                return
            with suppress(StoreUnavailable):
                await leases.hand_over(Lease(answer, answer), found, asked=True)
                await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._handed.discard(answer)


def _is_same(found: Bought, held: Operation) -> bool:
    """Whether this is still the answer that the operation got: the cache may have another one."""
    return len(found.body) == held.size and abs(found.at - held.dated) < SAME_SECONDS


def unknown_error(held: Operation, record: str) -> RepeatedUnknown:
    """The error of all later requests of a name under which the outcome is unknown."""
    failure = decode_message(held.failure)
    when = f"{utc(held.ended)} (request id {held.request})"
    if isinstance(failure, GatewayError):
        first, before = failure, f"{failure.message} That was at {when}."
    else:
        first = UpstreamUnknown()
        before = (
            f"The gateway that bought this request stopped at {when}. It will be charged, or is "
            "already."
        )
    return RepeatedUnknown(
        f"{before} It is never bought again under this name: to buy it, send another "
        "Idempotency-Key, or none. This request was not charged.",
        status=first.status,
        code=first.code,
        record=record,
        first=held.request,
    )
