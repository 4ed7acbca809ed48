"""This gateway's part in operations: answers that wait for a client that takes them over.

A purchase goes on when its client leaves. Its answer is shared like any other where the cache or a
flight can do that. Where they cannot (the team has no cache, the request asked for a new image, the
replica has another cache), the next equal request of the key line takes the operation over. The
rules are in `gateway.quota.operations`; this file keeps the answers, and waits for them.

- The buyer keeps an answer that no client has got in memory, for ten minutes and within
  KEPT_BYTES. If it is gone, or its gateway is, the image is bought again.
- A gateway that took over another gateway's operation looks for its end in the store. The buyer
  looks there for those who wait, and hands them the answer as elections do.
- A gateway with open operations says twice within each lease that it is alive. The operations of a
  dead one are unknown: who waits for them buys, and who comes later is refused as a repeat.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from gateway.core.errors import Draining, GatewayError, StoreUnavailable
from gateway.core.model import Bought
from gateway.core.periods import utc
from gateway.core.tasks import Background, Service
from gateway.core.upstream_errors import RepeatedUnknown, UpstreamError, UpstreamUnknown
from gateway.proxy.leases import Lease, Leases, decode_message, encode_message, message_of
from gateway.quota.ledger import Ledger
from gateway.quota.operations import LEASE_SECONDS, Operation, Repeat
from gateway.quota.steps import Deliver, Leave, Reserve
from gateway.telemetry.request_record import RequestRecord

KEPT_BYTES, MOST_KEPT = 64 * 1_048_576, 1_000
"""The most answers without a client, and their bytes, in memory."""

MOST_RECORDS = 100_000
"""Records of operations in the store."""

ALIVE_SECONDS = LEASE_SECONDS * 0.3
FORGET_SECONDS = 60.0

LOOK_SECONDS = 0.5
"""The interval of looking into the store for the end of another gateway's operation."""

GONE_SECONDS = 5.0
"""How long a bought answer may take to arrive from another gateway. Then it counts as gone."""

AGAIN_SECONDS = 8.0
"""How long an answer that was handed over is there. The store keeps it a little longer."""


class Ticket:
    """A request's part in an operation: it buys it, or `claims` that of another request.

    `id` is the id of its reservation, and `name` that of the record of its operation.
    """

    def __init__(self, record: RequestRecord) -> None:
        self.record = record
        self.name = self.id = ""
        self.operation: Operation | None = None
        self.claims = False
        self.bought: Bought | None = None
        self.until = 0.0
        self.is_over = False


@dataclass(eq=False)
class OpenOperations(Service):
    """The operations that this gateway buys or has taken over.

    `gateway` is the name of this process in the store. Without `leases` no other gateway's
    operation is taken over. `wall` is the time.
    """

    ledger: Ledger
    leases: Leases | None
    gateway: str
    wall: Callable[[], float]
    _running: dict[str, asyncio.Future[Bought]] = field(default_factory=dict)
    _kept: OrderedDict[str, Ticket] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _delivered: set[str] = field(default_factory=set)
    _handed: dict[str, tuple[str, float]] = field(default_factory=dict)
    _open: set[Ticket] = field(default_factory=set)
    background: Background = field(default_factory=lambda: Background("operations"))

    async def start(self) -> None:
        """Start to say that this gateway is alive, and to hand over answers."""
        every = self.background.every
        every(ALIVE_SECONDS, self._keep_alive, survive=StoreUnavailable)
        every(FORGET_SECONDS, self._forget, survive=StoreUnavailable)
        if self.leases is not None:
            hand_over = partial(self._hand_over, self.leases)
            every(LOOK_SECONDS, hand_over, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop. Hand over what other gateways wait for: it is gone with this process."""
        await self.background.close()
        if self.leases is not None:
            with suppress(StoreUnavailable):
                await self._hand_over(self.leases)

    # -- an operation of this gateway -----------------------------------------------------------

    @property
    def shared(self) -> bool:
        """Whether the answers of other gateways can be reached."""
        return self.leases is not None

    def ask(self, ticket: Ticket, reservation: Reserve) -> Bought | None:
        """A purchase is about to be reserved, or an operation to be claimed.

        Returns the answer that an equal request is being sent, if this is its marked retry: the
        client may have gone without a sign. An operation under a name has no ticket here.
        """
        if reservation.wish is not None and reservation.wish.body:
            return None
        ticket.name, ticket.id = reservation.record, reservation.id
        ticket.operation, ticket.claims, ticket.is_over = None, False, False
        wish = reservation.wish
        if wish is None or not wish.is_retry:
            return None
        for other in self._open:
            if other.name == ticket.name and other.bought is not None and not other.claims:
                ticket.claims = True
                return other.bought
        return None

    @contextmanager
    def alive(self, ticket: Ticket) -> Iterator[None]:
        """Say that this gateway is alive while it works on an operation under a name."""
        self._open.add(ticket)
        try:
            yield
        finally:
            self._close(ticket)

    def begin(self, ticket: Ticket, reservation: Reserve, at: float) -> None:
        """A purchase was admitted at this time, and is about to be sent."""
        operation = reservation.operation(at)
        if operation is None or operation.body:
            return
        ticket.operation = operation
        self._open.add(ticket)
        self._running[operation.id] = asyncio.get_running_loop().create_future()
        if ticket.record.left:
            self.left(ticket)

    def failed(self, ticket: Ticket, failure: BaseException) -> None:
        """There is no answer. Who has taken over the purchase fails likewise."""
        if ticket.operation is not None and not ticket.claims:
            running = self._running.pop(ticket.operation.id, None)
            if running is not None and isinstance(failure, GatewayError):
                running.set_exception(failure)
                running.exception()  # marks it as retrieved: mostly nobody waits
            elif running is not None:
                running.cancel()
        self._close(ticket)

    def answered(self, ticket: Ticket) -> None:
        """The upstream has answered, and the purchase is about to be settled.

        The settlement removes an operation whose client waits. If that leaves from now on, the
        operation is added again.
        """
        if ticket.operation is not None and ticket.operation.state == "running":
            ticket.operation = replace(ticket.operation, state="bought", ended=self.wall())

    def bought(
        self,
        ticket: Ticket,
        bought: Bought,
        noted: Operation | None,
        lasts: float,
        *,
        is_found: bool,
    ) -> None:
        """The purchase has its answer, which can be used for `lasts` seconds.

        `noted` is its operation if that stays in the store. With `is_found`, equal requests find
        the answer in the cache.
        """
        if ticket.operation is None:
            return
        ticket.bought, ticket.until = bought, self.wall() + lasts
        self.answered(ticket)
        self._running.pop(ticket.operation.id).set_result(bought)
        if is_found:
            self._close(ticket)
        elif noted is not None:
            self._keep(ticket)
            if noted.left:
                self._close(ticket)
        elif ticket.record.left:
            self.left(ticket)

    # -- the client of a request ----------------------------------------------------------------

    def left(self, ticket: Ticket) -> None:
        """The client has left."""
        if not ticket.id or ticket.is_over:
            return
        own = None if ticket.claims else ticket.operation
        whole = own if own is not None and own.state == "bought" else None
        # Also while it is reserved: the ledger writes steps in their order.
        self.ledger.note(Leave(record=ticket.name, id=ticket.id, whole=whole))
        if ticket.claims:
            self._close(ticket)
        elif ticket.bought is not None:
            self._keep(ticket)
            self._close(ticket)

    def sent(self, ticket: Ticket, whole: bool) -> None:
        """The answer was sent. It was not `whole` if the client left meanwhile."""
        if not whole:
            self.left(ticket)
        elif ticket.operation is not None and ticket.claims and not ticket.is_over:
            if self.leases is None:
                self._drop(ticket.operation.id)
            elif ticket.operation.id in self._kept:
                # A later retry at another gateway may have taken it over: the store tells.
                self._delivered.add(ticket.operation.id)
            self.ledger.note(Deliver(record=ticket.name, id=ticket.id))
        self._close(ticket)

    def _close(self, ticket: Ticket) -> None:
        ticket.is_over = True
        self._open.discard(ticket)

    # -- taking over ----------------------------------------------------------------------------

    async def take_over(self, ticket: Ticket, operation: Operation) -> Bought | None:
        """Wait for the answer of an operation that this request has claimed.

        Returns None if there is none any more: the request is bought then. Raises the failure of
        the operation, or StoreUnavailable.
        """
        ticket.operation, ticket.claims = operation, True
        self._open.add(ticket)
        if ticket.record.left:
            self.left(ticket)
        try:
            with ticket.record.waiting():
                bought = await self._answer(ticket.name, operation, ticket.id)
        except BaseException:
            self.left(ticket)  # it may still be there for the next request
            raise
        if bought is None:
            self._close(ticket)
            ticket.claims = False
        return bought

    async def _answer(self, name: str, operation: Operation, claim: str) -> Bought | None:
        if operation.gateway != self.gateway:
            leases = self.leases
            return None if leases is None else await self._from_afar(leases, name, operation, claim)
        running = self._running.get(operation.id)
        if running is None:
            kept = self._kept.get(operation.id)
            return None if kept is None or kept.until < self.wall() else kept.bought
        await asyncio.wait([running])
        if running.cancelled():
            return None
        failure = running.exception()
        if failure is not None:
            raise failure.with_traceback(None)
        return running.result()

    async def _from_afar(
        self, leases: Leases, name: str, operation: Operation, claim: str
    ) -> Bought | None:
        """Look for the end of another gateway's operation, and fetch its answer.

        Raises Draining if the claim is lost: the client left, or a later retry of it has the claim.
        """
        bought_since: float | None = None
        now = asyncio.get_running_loop().time
        while True:
            found = await self.ledger.operation(name, operation.id, self.gateway)
            if found is None:
                return None
            if found.claim != claim:
                raise Draining  # nobody waits
            if found.state == "unknown":
                failure = decode_message(found.failure)
                if isinstance(failure, GatewayError):
                    raise failure
                return None  # its gateway is dead
            if found.state == "bought":
                bought_since = bought_since or now()
                bought = await leases.handed_over(_lease(operation))
                if bought is not None or now() - bought_since > GONE_SECONDS:
                    return bought
            await asyncio.sleep(LOOK_SECONDS)

    # -- in the background ----------------------------------------------------------------------

    def _keep(self, ticket: Ticket) -> None:
        operation, bought = ticket.operation, ticket.bought
        if operation is None or bought is None or len(bought.body) > KEPT_BYTES:
            return
        self._drop(operation.id)
        self._kept[operation.id] = ticket
        self._kept_bytes += len(bought.body)
        while self._kept_bytes > KEPT_BYTES or len(self._kept) > MOST_KEPT:
            self._drop(next(iter(self._kept)))

    def _drop(self, id: str) -> None:
        self._delivered.discard(id)
        ticket = self._kept.pop(id, None)
        if ticket is not None and ticket.bought is not None:
            self._kept_bytes -= len(ticket.bought.body)

    async def _keep_alive(self) -> None:
        now = self.wall()
        for id in [id for id, ticket in self._kept.items() if ticket.until < now]:
            self._drop(id)
        if self._open or self._kept:
            await self.ledger.store.keep_alive(self.gateway, LEASE_SECONDS)

    async def _forget(self) -> None:
        await self.ledger.store.forget_operations(MOST_RECORDS)

    async def _hand_over(self, leases: Leases) -> None:
        """Hand over the kept answers that other gateways have claimed."""
        now = self.wall()
        kept = [ticket for ticket in self._kept.values() if ticket.until > now]
        if not kept:
            return
        loaded = await self.ledger.store.load((), [ticket.name for ticket in kept])
        for ticket, (operations, _) in zip(kept, loaded.records, strict=True):
            if ticket.operation is None or ticket.bought is None:
                continue
            id = ticket.operation.id
            found = operations.get(id)
            if found is None and id in self._delivered:
                self._drop(id)
            if found is None or found.claimant in ("", self.gateway):
                continue
            # Once more for another claim: the one before may have fetched it, and left.
            claim, at = self._handed.get(id, ("", 0.0))
            if claim != found.claim or now - at > AGAIN_SECONDS:
                self._handed[id] = found.claim, now
                await leases.hand_over(_lease(ticket.operation), ticket.bought, asked=True)
        for id in [id for id in self._handed if id not in self._kept]:
            del self._handed[id]


def kept_failure(failure: Exception, record: RequestRecord) -> bytes:
    """Encode a purchase's failure for the store, which keeps no text of a request."""
    message = message_of(failure)
    if isinstance(message, UpstreamError):
        status, reason = message.upstream_status, record.reason_of(message)
        message = type(message)(upstream_status=status, reason=reason)
    return encode_message(message)


def repeated_error(repeat: Repeat, record: str) -> RepeatedUnknown:
    """The error of a request that repeats an operation of unknown outcome in this record."""
    operation = repeat.operation
    failure = decode_message(operation.failure)
    anyway = (
        "change the request, for example its field 'user'"
        if operation.fresh
        else "send the header 'Cache-Control: no-cache'"
    )
    when = f"{utc(operation.ended)} (request id {operation.request})"
    if isinstance(failure, GatewayError):
        first = failure
        before = f"An equal request ended without a clear outcome and was charged at {when}."
    else:  # its hold is still open, and is charged when that lease ends
        first = UpstreamUnknown()
        before = (
            f"The gateway that bought an equal request stopped at {when}. That request will be "
            "charged, or is already."
        )
    return RepeatedUnknown(
        f"{before} It is not bought again for another {max(1, round(repeat.seconds))} seconds. To "
        f"buy it anyway, {anyway}. This request was not charged.",
        status=first.status,
        code=first.code,
        record=record,
        first=operation.request,
    )


def _lease(operation: Operation) -> Lease:
    return Lease(operation.id, operation.id)
