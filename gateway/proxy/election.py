"""Which of several gateways buys an answer: a lease in the store elects one, the others wait.

The holder renews its lease while it lives; the lease of a dead gateway expires. No money depends
on it: losing a lease may cost a duplicate image, never a wrong charge.

The races it guards against:

1. *The buyer ends while another gateway asks for the lease.* A candidate listens before it asks,
   and keeps messages by holder until it knows which holder it waits for.
2. *Messages get lost with the subscription.* Whenever a subscription is lost or established, all
   who wait look and ask again; so they do when the lease in their way should have expired.
3. *The buyer ended between a look into the cache and the lease.* A candidate that has waited or was
   elected looks into the cache before it buys.
4. *The store runs a command later that was given up.* A lease that was perhaps taken is ended,
   again and again until the store has done so. Each try has a holder of its own, so a late end hits
   no other.
5. *A request that comes after a failure finds the failure's message still on the way.* Messages of
   this very gateway are delivered by its own flight; to its other flights they mean "try again".
6. *A renewal overtakes the end, and the lease is there again.* One task does both in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import structlog
from msgspec import Struct

from gateway.core.deadline import Deadline
from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.core.model import Bought
from gateway.core.tasks import Background, Service
from gateway.proxy.leases import (
    Lease,
    Leases,
    Message,
    Rival,
    decode_message,
    encode_message,
    message_of,
)
from gateway.quota.ledger import store_patience
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord

log = structlog.get_logger(source="elections")

LEASE_SECONDS = 5.0
"""How long a lease outlives its holder."""

OUTAGE_SECONDS = 2.0
"""How long the store may be away for a candidate that has waited for another gateway.

Any other candidate fails: it knows of no purchase that could still serve it."""

MESSAGE_SECONDS = 60.0
"""How long messages are kept for a store that does not answer. Nobody waits that long."""

PAUSE_SECONDS = 0.25
"""Between two tries to reach a store that does not answer."""

WANTED = "wanted:"
"""Begins the name of a lease that nobody takes: its message asks for a kept answer."""

BATCH = 500
"""Leases in one command: bounds how long the store is busy with it."""

Look = Callable[[], Awaitable[Bought | None]]
Buy = Callable[[], Awaitable[Bought]]


class FlightResult(Struct, frozen=True):
    """The answer of a flight. `free`: another purchase brought it."""

    bought: Bought
    free: bool = False


class LocalElection(Service):
    """The election of a gateway that has its store for itself: it buys."""

    leases: Leases | None = None
    on_wanted: Callable[[str], None] | None = None

    def cache_is_shared(self) -> bool:
        """There are no others that would have to find an answer."""
        return True

    async def ask_for(self, answer: str) -> None:
        """There is nobody to ask."""

    async def buy_or_wait(
        self, name: str, record: RequestRecord, look: Look, buy: Buy
    ) -> FlightResult:
        """Return the answer of this name: `buy` it, or wait for the gateway that does.

        `look` returns the answer if it is in the cache by now. Waits for other gateways count as
        such in `record`. A gateway must not run two elections of one name at a time.

        Raises the errors of `buy`, here or at the other gateway, and StoreUnavailable.
        """
        found = await look()
        return FlightResult(await buy()) if found is None else FlightResult(found, free=True)


class _Candidate:
    """A flight that asks for the lease of its name, or waits for the gateway that holds it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lease: Lease | None = None
        self.handed_over: Bought | None = None
        self.messages: dict[str, bytes] = {}
        self.wake = asyncio.Event()
        self.has_waited = False
        self.away_since: float | None = None


@dataclass(eq=False)
class SharedElection(Service):
    """The elections among the gateways of one store, over leases that all of them see.

    `cache_is_shared` returns whether the others find a stored answer in the cache at once.
    `on_wanted` receives the names of kept answers that another gateway asks for.
    A lease lasts `lease_seconds` and is renewed three times in that.
    """

    leases: Leases
    new_id: Callable[[], str]
    cache_is_shared: Callable[[], bool]
    lease_seconds: float = LEASE_SECONDS
    observer: Observer = NO_OBSERVER
    on_wanted: Callable[[str], None] = lambda answer: None
    _renewal_due: float = 0.0
    _candidates: dict[str, _Candidate] = field(default_factory=dict)
    _held: set[Lease] = field(default_factory=set)
    _unsent: dict[Lease, tuple[bytes, float]] = field(default_factory=dict)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)
    _background: Background = field(default_factory=lambda: Background("elections"))

    def __post_init__(self) -> None:
        self._gateway = self.new_id()

    async def start(self) -> None:
        """Start to listen for messages, and to renew the leases that are held."""
        self._background.spawn(self._listen())
        self._background.spawn(self._keep_up())

    async def close(self) -> None:
        """Send the messages that wait, if the store answers, and close the connections."""
        await self._background.close()
        with suppress(StoreUnavailable):
            await self._send()
        await self.leases.close()

    @property
    def held(self) -> int:
        """How many leases are renewed."""
        return len(self._held)

    async def ask_for(self, answer: str) -> None:
        """Ask the other gateways for a kept answer of this name. Raises StoreUnavailable."""
        await self.leases.end([(Lease(WANTED + answer, self._gateway), b"")])

    # -- an election ----------------------------------------------------------------------------

    async def buy_or_wait(
        self, name: str, record: RequestRecord, look: Look, buy: Buy
    ) -> FlightResult:
        """Return the answer of this name: see `LocalElection`."""
        candidate = self._candidates[name] = _Candidate(name)  # race 1: before it asks
        try:
            while True:
                elected = await self._stand(candidate, record)
                found = candidate.handed_over or await look()  # race 3
                if found is not None:
                    return FlightResult(found, free=True)
                if elected:
                    return FlightResult(await self._buy(candidate, buy))
        finally:
            del self._candidates[name]
            self._end(candidate, "again")

    async def _stand(self, candidate: _Candidate, record: RequestRecord) -> bool:
        """Ask for the lease. Returns False after a wait: look for the answer, then ask again.

        Raises the failure of the other gateway's purchase, or StoreUnavailable.
        """
        candidate.wake.clear()
        began, lease = _now(), Lease(candidate.name, f"{self._gateway}.{self.new_id()}")
        try:
            rival = await self._take(lease, store_patience(record.own_seconds()))
        except StoreUnavailable:
            candidate.away_since = candidate.away_since or began
            if not candidate.has_waited or _now() - candidate.away_since >= OUTAGE_SECONDS:
                raise
            with record.waiting():
                await asyncio.sleep(PAUSE_SECONDS)
            return False
        candidate.away_since = None
        if rival is None:
            candidate.lease = lease
            return True
        with record.waiting():
            await self._wait_for(rival, candidate)
        return False

    async def _take(self, lease: Lease, patience: float) -> Rival | None:
        """Take the lease and keep it up, or return its holder.

        Raises StoreUnavailable after `patience` seconds at the latest.
        """
        try:
            async with Deadline(patience):
                rival = await self.leases.take(lease, self.lease_seconds)
        except BaseException as failure:  # race 4: it may be taken all the same
            self._announce(lease, "again")
            if isinstance(failure, TimeoutError):
                raise StoreUnavailable from None
            raise
        if rival is None:
            self._held.add(lease)
        return rival

    async def _wait_for(self, rival: Rival, candidate: _Candidate) -> None:
        """Wait for the rival's message, until its lease should have expired.

        Raises the failure of its purchase.
        """
        if not candidate.has_waited:
            candidate.has_waited = True
            self.observer.flight("remote")
        with suppress(TimeoutError):
            async with asyncio.timeout(rival.seconds):
                await candidate.wake.wait()
        message = decode_message(candidate.messages.pop(rival.holder, b""))
        if message == "handed over":
            with suppress(StoreUnavailable):
                lease = Lease(candidate.name, rival.holder)
                candidate.handed_over = await self.leases.handed_over(lease)
        is_ours = rival.holder.startswith(f"{self._gateway}.")  # race 5
        if isinstance(message, GatewayError) and not is_ours:
            raise message

    async def _buy(self, candidate: _Candidate, buy: Buy) -> Bought:
        """Buy the answer, and announce the result to the gateways that wait."""
        try:
            bought = await buy()
        except BaseException as failure:
            # A gateway that stops in the middle concerns nobody else, even if it was charged.
            self._end(candidate, "again" if _being_cancelled() else message_of(failure))
            raise
        if bought.kept and self.cache_is_shared():
            self._end(candidate, "again")
        elif candidate.lease is not None:
            self._background.spawn(self._hand_over(candidate.lease, bought))
            candidate.lease = None  # `_hand_over` ends it, with a message of its own
        return bought

    async def _hand_over(self, lease: Lease, bought: Bought) -> None:
        message: Message = "again"
        try:
            with suppress(StoreUnavailable):
                if await self.leases.hand_over(lease, bought):
                    message = "handed over"
        finally:  # also if a stop cancels it: the others must not wait for the lease to expire
            self._announce(lease, message)

    def _end(self, candidate: _Candidate, message: Message) -> None:
        """End the candidate's lease, if it has one, with this message."""
        if candidate.lease is not None:
            self._announce(candidate.lease, message)
            candidate.lease = None

    def _announce(self, lease: Lease, message: Message) -> None:
        """End the lease and send the message, as soon as the store can be reached."""
        self._unsent[lease] = encode_message(message), _now()
        self._wanted.set()

    # -- in the background ----------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Renew leases when that is due, and send messages as they come (race 6)."""
        self._renewal_due = _now() + self.lease_seconds * 0.3
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._renewal_due):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._renew_if_due()
                await self._send()
            except StoreUnavailable:
                await self._pause()
            except Exception as defect:  # one bad turn must not end all later ones
                log.exception("leases not renewed", exc_info=defect)
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        if self._unsent:
            self._wanted.set()

    async def _renew_if_due(self) -> None:
        if _now() < self._renewal_due:
            return
        self._renewal_due = _now() + self.lease_seconds * 0.3
        for batch in _batches(self._held):
            for lease in await self.leases.renew(batch, self.lease_seconds):
                self._held.discard(lease)
                self.observer.lease_lost()
                log.warning("lease lost: an image may be bought twice", name=lease.name)

    async def _send(self) -> None:
        oldest = _now() - MESSAGE_SECONDS
        for lease in [lease for lease, (_, since) in self._unsent.items() if since < oldest]:
            self._forget(lease)
        for batch in _batches(self._unsent):
            messages = [(lease, self._unsent[lease][0]) for lease in batch if lease in self._unsent]
            if messages:
                await self.leases.end(messages)
            for lease in batch:
                self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        self._unsent.pop(lease, None)  # another call may have sent it meanwhile
        self._held.discard(lease)

    async def _listen(self) -> None:
        """Pass messages on to candidates; subscribe again whenever the subscription is lost."""
        while True:
            try:
                await self._receive()
            except StoreUnavailable:
                log.debug("no subscription")
            except Exception as defect:  # one bad turn must not end all later ones
                log.exception("listening failed", exc_info=defect)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _receive(self) -> None:
        subscribed = False
        try:
            async with aclosing(self.leases.listen()) as events:
                async for event in events:
                    if event is None:
                        subscribed = True
                        self._wake_all()  # race 2
                    elif candidate := self._candidates.get(event.lease.name):
                        candidate.messages[event.lease.holder] = event.message
                        candidate.wake.set()
                    elif event.lease.name.startswith(WANTED):
                        self.on_wanted(event.lease.name.removeprefix(WANTED))
        finally:
            if subscribed:  # the store itself may be lost: those who wait must find out
                self._wake_all()

    def _wake_all(self) -> None:
        for candidate in self._candidates.values():
            candidate.wake.set()


Election = LocalElection | SharedElection


def _now() -> float:
    return asyncio.get_running_loop().time()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _batches(leases: Iterable[Lease]) -> Iterator[list[Lease]]:
    whole = list(leases)
    for start in range(0, len(whole), BATCH):
        yield whole[start : start + BATCH]
