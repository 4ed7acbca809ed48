"""Requests with a name: all requests of a team under it get what the first one got, for a day.

A client gives the name as an `Idempotency-Key`, or gets it with a 202 (`Prefer: respond-async`).

A request claims its name in the store, then it is served like any other: from the cache, by joining
a purchase, or by one of its own. What it got is noted under the name. The claim goes first:

1. *Two requests of one name, at whatever gateways.* One has the name; the others wait for it.
2. *A gateway dies.* A name that was only claimed is free again, for nothing was bought under it.
   One whose purchase was reserved is unknown, and stays so.
3. *A gateway stands still after the claim, and another one takes the name.* The reservation looks
   at the name again, so only one of them buys.
4. *A client is told to ask later, and its gateway dies.* The store knows of the claim before the
   client does, so every gateway can say what became of it.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Protocol

from aiocache.base import BaseCache
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.core.errors import IdempotencyKeyReused, NotFound, Overloaded, StoreUnavailable
from gateway.core.model import Bought, Deliver
from gateway.core.single_flight import Flight, Flights
from gateway.proxy.cache_control import CacheStatus
from gateway.proxy.context import (
    Accepted,
    Admission,
    Context,
    Poll,
    ProxyRequest,
    ProxyResponse,
)
from gateway.proxy.election import Election, FlightResult
from gateway.proxy.fingerprint import body_digest, scope_of
from gateway.proxy.holds import NameTaken
from gateway.proxy.kept_answers import KeptAnswers, mark_of
from gateway.proxy.operation_name import (
    OperationName,
    key_id,
    operation_name,
    prefers_async,
    read_idempotency_key,
)
from gateway.proxy.operations import LOOK_SECONDS, OpenOperations, Ticket, kept_failure
from gateway.proxy.past_failures import (
    encode_failure,
    is_unclear,
    past_failure,
    past_unclear_failure,
    past_unknown,
)
from gateway.proxy.pictures import Pictures
from gateway.quota.ledger import Ledger, store_patience
from gateway.quota.named import CachedAs, Claim, Promise, Unanswered
from gateway.quota.operations import Operation
from gateway.telemetry.request_record import RequestRecord

ACCEPT_SECONDS = 2.0
"""After so long a client is told to ask later, even if its request still waits for another one."""

MOST_ID_CHARS = 64

_FORMS: Mapping[str, Deliver] = {"url": "url", "b64_json": "b64_json"}
"""The forms that a request may ask for."""


class UnknownOperation(NotFound):
    """The team has no operation with this id, or has it no longer."""

    code = "operation_not_found"
    text = "Your team has no operation with this id, or its 24 hours are over."


class Path(Protocol):
    """The path of requests without a name: see `Proxy`."""

    cache: BaseCache
    ledger: Ledger
    election: Election
    operations: OpenOperations
    pictures: Pictures

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


def with_name(context: Context, incoming: ProxyRequest, new_id: Callable[[], str]) -> Context:
    """Add the name of the request's operation, if it has one. Raises InvalidRequest.

    With `only-if-cached` nothing is bought, so there is nothing to name. A stream is one answer.
    """
    key = read_idempotency_key(incoming.idempotency_key)
    promised = prefers_async(incoming.prefer) and not context.request.stream
    if context.cache.only or (key is None and not promised):
        return context
    team = context.caller.team
    scope, digest = scope_of(team, context.settings), body_digest(context.request)
    id = new_id() if key is None else key_id(key)
    name = operation_name(id, team.name, scope, digest)
    return replace(context, name=replace(name, has_key=key is not None, promised=promised))


class NamedRequests:
    """Serves requests that have a name."""

    def __init__(self, path: Path) -> None:
        self.flights = Flights[FlightResult]()
        self.answers = KeptAnswers(
            path.cache, path.ledger, path.election, path.operations, path.wall
        )
        self._path = path

    async def serve(
        self, context: Context, name: OperationName, cached: Bought | None
    ) -> ProxyResponse | Accepted:
        """Answer with what the first request of its name got, or with `cached`, or buy."""
        path = self._path
        if cached is not None and not name.has_key:
            return await path.show_hit(context, cached)
        # Clients that ask later hold no connection, so nothing else bounds what they wait for.
        if cached is None and len(self.flights) >= context.settings.server.max_in_flight:
            raise Overloaded
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
            if held.id == name.operation and cached is not None:
                return await path.show_hit(context, cached)
            if not held.is_open:
                return await self._again(context, name, held)
            with suppress(NameTaken):
                if (answer := await self._attend(context, name, held)) is not None:
                    return answer
            cached = await path.look_up(context)

    async def _claim(
        self, context: Context, name: OperationName, cached: Bought | None
    ) -> Operation:
        found = None
        if cached is not None:
            found = CachedAs(context.fingerprint, mark_of(cached.body), cached.at, name.scope)
        path, record, started = self._path, context.record, context.record.clock()
        wish = context.wish(path.operations)
        step = Claim(id=name.operation, wish=wish, lease=context.lease_seconds, cached=found)
        held = await path.ledger.claim(step, store_patience(record.own_seconds()))
        record.phase_ended("name", started)
        return held

    async def _again(self, context: Context, name: OperationName, held: Operation) -> ProxyResponse:
        """Answer as the operation was answered. Raises RepeatedUnknown or ResultExpired."""
        if held.state == "unknown":
            raise past_unknown(held, name.record)
        return await self._path.show_hit(context, await self.answers.find(held, name))

    # -- an operation that is under way ---------------------------------------------------------

    async def _attend(
        self, context: Context, name: OperationName, held: Operation
    ) -> ProxyResponse | Accepted | None:
        """Begin an operation, or join it. Returns None once another gateway's has ended."""
        is_ours = held.id == name.operation
        if is_ours and name.promised:
            return await self._promise(context, name)
        if name.promised:
            return _accepted(context, name)
        if is_ours or self.flights.under_way(held.id):
            return await self._share(context, name, held.id)
        await self._wait(context, name)
        return None

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
            finally:
                context.decide(has_ended=True)
            free = result.free or not flight.led
            if free:
                await self.answers.refer(context, name, result.bought)
            return FlightResult(result.bought, free)

    def _failed(self, context: Context, name: OperationName, failure: BaseException) -> None:
        """Note a failure. That of a purchase of its own is noted already, so nothing changes."""
        unknown, record = is_unclear(failure), context.record
        if unknown and isinstance(failure, Exception):
            kept = kept_failure(failure, record)
        else:
            kept = encode_failure(failure, record)
        step = Unanswered(record=name.record, id=name.operation, failure=kept, unknown=unknown)
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

    # -- asking later ---------------------------------------------------------------------------

    async def _promise(self, context: Context, name: OperationName) -> ProxyResponse | Accepted:
        """Begin the operation, and have its client ask later unless it fails at once.

        The purchase has a record of its own: that of the request ends with the 202.
        """
        record, admission = context.record, Admission()
        own = dataclasses.replace(record, left=True, phases={})
        later = replace(context, record=own, ticket=Ticket(own), admission=admission)
        flight = self.flights.lead_or_join(name.operation, lambda: self._see_through(later, name))
        with record.waiting(), suppress(TimeoutError):
            async with asyncio.timeout(ACCEPT_SECONDS):
                await admission.decided.wait()
        record.rate_limits = own.rate_limits
        if admission.is_reserved:
            return _accepted(context, name)
        form = context.request.response_format or ""
        step = Promise(record=name.record, id=name.operation, form=form)
        if not admission.has_ended and await self._path.ledger.finish(step):
            return _accepted(context, name)
        return await self._path.answer(flight, await flight.result(), context)

    async def poll(
        self, id: str, settings: Settings, origin: Callable[[], str], record: RequestRecord
    ) -> ProxyResponse | Accepted:
        """Return the answer of an operation of the caller's team, once it is there.

        Raises UnknownOperation, ResultExpired, StoreUnavailable or the failure of the operation.
        """
        if (caller := record.caller) is None or len(id) > MOST_ID_CHARS:
            raise UnknownOperation
        path, team = self._path, caller.team
        name = operation_name(id, team.name, scope_of(team, settings), "")
        with record.waiting():
            held = await path.ledger.operation(name.record, None, path.operations.gateway)
        if held is None:
            raise UnknownOperation
        if held.is_open:
            return Accepted(id)
        if held.state == "unknown":
            raise past_unclear_failure(held)
        if held.state == "failed":
            raise past_failure(held)
        with record.waiting():
            bought = await self.answers.find(held, name)
        form = _FORMS.get(held.form) or team.deliver or settings.images.deliver
        reader = Poll(form, settings, origin, held.answer, record)
        body = await path.pictures.shown(bought, reader)
        return ProxyResponse(body, CacheStatus.HIT, int(max(0.0, path.wall() - bought.at)))


def _accepted(context: Context, name: OperationName) -> Accepted:
    context.record.outcome = "accepted"
    return Accepted(name.id)
