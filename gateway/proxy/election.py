"""Which of several gateways buys: a lease in the store elects one, the others wait for its news.

A lease is kept up while its holder lives and ends by itself where it does not. It is no lock that
money hangs on: losing one may cost a duplicate image, never a wrong charge.

The races it guards against:

1. *The buyer ends while another one asks for the lease.* Who asks listens before, and keeps the
   news by holder until it knows whom it waits for.
2. *News get lost with the subscription.* Whenever one is lost or comes about, all who wait look
   and ask again; so they do when the lease in their way should have ended.
3. *The buyer ended between a look into the cache and the lease.* Whoever waited or was elected
   looks into the cache before it buys: see `gateway.proxy.pipeline`.
4. *The store runs later what was given up.* A lease that was perhaps taken is ended, again and
   again until the store has done so. Each try has a holder of its own, which no late end hits.
5. *Who comes after a failure finds its news still on the way.* News of this very gateway are
   told by its own flight; to others of its flights they mean "try again".
6. *A renewal overtakes the end, and the lease is there again.* One task does both in turn.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

import structlog

from gateway.core.deadline import Patience
from gateway.core.errors import GatewayError, StoreUnavailable
from gateway.core.model import Bought
from gateway.core.tasks import Background
from gateway.proxy.election_messages import News, decode_news, encode_news, news_of
from gateway.proxy.leases import Lease, Leases, Rival
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="elections")

LEASE_SECONDS = 5.0
"""How long a lease outlives its holder."""

PATIENCE_SECONDS = 2.0
"""How long somebody who waits already bears with a store that is away."""

TELLING_SECONDS = 60.0
"""How long news are kept for a store that is away. Nobody waits that long."""

PAUSE_SECONDS = 0.25
"""Between two tries to reach a store that is away."""

BATCH = 500
"""Leases in one command: bounds how long the store is busy with it."""


class Alone:
    """The election of a gateway that shares its store with nobody: it wins at once."""

    handed_over: Bought | None = None

    def stand(self, name: str) -> Self:
        """A part in the election, as `Elections.stand` gives one."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    async def elected(self, patience: float) -> bool:
        """It is."""
        return True

    async def tell(self, work: Awaitable[Bought]) -> Bought:
        """What the work brings; nobody else waits for it."""
        return await work


class Elections:
    """The elections in which this gateway stands, over the leases that all share.

    `cache_is_shared` tells whether the others find in the cache what was kept there just now.
    Leases live for `lease_seconds`, and are renewed three times in that.
    """

    def __init__(
        self,
        leases: Leases,
        *,
        new_id: Callable[[], str],
        cache_is_shared: Callable[[], bool],
        lease_seconds: float = LEASE_SECONDS,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._leases = leases
        self._observer = observer
        self._new_id = new_id
        self._cache_is_shared = cache_is_shared
        self._lease_seconds = lease_seconds
        self._renewal_due = 0.0
        self._gateway = new_id()
        self._standing: dict[str, Candidate] = {}
        self._held: set[Lease] = set()
        self._untold: dict[Lease, tuple[bytes, float]] = {}
        self._wanted = asyncio.Event()
        self._background = Background("elections")

    def start(self) -> None:
        """Begin to listen, and to keep up what is held."""
        self._background.spawn(self._listen())
        self._background.spawn(self._keep_up())

    async def close(self) -> None:
        """Tell what is not told yet, if the store answers, and let go."""
        await self._background.close()
        with suppress(StoreUnavailable):
            await self._tell()
        await self._leases.close()

    @property
    def held(self) -> int:
        """Leases that are kept up."""
        return len(self._held)

    def stand(self, name: str) -> "Candidate":
        """A part in the election of this name's buyer. A gateway has one a name at a time."""
        return Candidate(self, name)

    # -- for candidates -------------------------------------------------------------------------

    def enter(self, candidate: "Candidate") -> None:
        """Let the candidate hear what is told under its name from now on."""
        self._standing[candidate.name] = candidate

    def leave(self, candidate: "Candidate") -> None:
        """It wants to hear no more."""
        del self._standing[candidate.name]

    def new_lease(self, name: str) -> Lease:
        """A lease that nobody had before, to be taken."""
        return Lease(name, f"{self._gateway}.{self._new_id()}")

    def is_ours(self, holder: str) -> bool:
        """Whether this is a flight of this very gateway."""
        return holder.startswith(f"{self._gateway}.")

    async def take(self, lease: Lease, patience: float) -> Rival | None:
        """Take the lease and keep it up, or tell who has it.

        Raises StoreUnavailable, after `patience` seconds at the latest.
        """
        try:
            async with Patience(patience):
                rival = await self._leases.take(lease, self._lease_seconds)
        except BaseException as failure:  # given up, and perhaps taken all the same
            self.end(lease, "again")
            if isinstance(failure, TimeoutError):
                raise StoreUnavailable from None
            raise
        if rival is None:
            self._held.add(lease)
        return rival

    def end(self, lease: Lease, news: News) -> None:
        """End the lease and tell the news, as soon as the store can be reached."""
        self._untold[lease] = encode_news(news), _now()
        self._wanted.set()

    def deliver(self, lease: Lease, bought: Bought) -> None:
        """End the lease so that those who wait come by what was bought."""
        if bought.kept and self._cache_is_shared():
            self.end(lease, "again")
        else:
            self._background.spawn(self._hand_over(lease, bought))

    async def fetch(self, lease: Lease) -> Bought | None:
        """What was handed over, if it is still there."""
        with suppress(StoreUnavailable):
            return await self._leases.handed_over(lease)
        return None

    def waits(self) -> None:
        """Count a flight that waits for another gateway's."""
        self._observer.flight("remote")

    # -- in the background ----------------------------------------------------------------------

    async def _hand_over(self, lease: Lease, bought: Bought) -> None:
        news: News = "again"
        try:
            with suppress(StoreUnavailable):
                if await self._leases.hand_over(lease, bought):
                    news = "handed over"
        finally:
            self.end(lease, news)

    async def _keep_up(self) -> None:
        """Renew what is held when that is due, and tell news as they come."""
        self._renewal_due = _now() + self._lease_seconds * 0.3
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._renewal_due):
                    await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._renew_if_due()
                await self._tell()
            except StoreUnavailable:
                await self._pause()
            except Exception as defect:  # one bad turn must not end all later ones
                log.exception("leases not kept up", exc_info=defect)
                await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        if self._untold:
            self._wanted.set()

    async def _renew_if_due(self) -> None:
        if _now() < self._renewal_due:
            return
        self._renewal_due = _now() + self._lease_seconds * 0.3
        for batch in _batches(self._held):
            for lease in await self._leases.renew(batch, self._lease_seconds):
                self._held.discard(lease)
                self._observer.lease_lost()
                log.warning("lease lost: an image may be bought twice", name=lease.name)

    async def _tell(self) -> None:
        oldest = _now() - TELLING_SECONDS
        for lease in [lease for lease, (_, since) in self._untold.items() if since < oldest]:
            self._told(lease)
        for batch in _batches(self._untold):
            await self._leases.end([(lease, self._untold[lease][0]) for lease in batch])
            for lease in batch:
                self._told(lease)

    def _told(self, lease: Lease) -> None:
        del self._untold[lease]
        self._held.discard(lease)

    async def _listen(self) -> None:
        """Pass news on to those who wait; begin anew for ever where the subscription is lost."""
        while True:
            try:
                await self._hear()
            except StoreUnavailable:
                log.debug("no subscription")
            except Exception as defect:  # one bad turn must not end all later ones
                log.exception("listening failed", exc_info=defect)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _hear(self) -> None:
        subscribed = False
        try:
            async with aclosing(self._leases.listen()) as heard:
                async for each in heard:
                    if each is None:
                        subscribed = True
                        self._look_again()
                    elif candidate := self._standing.get(each.lease.name):
                        candidate.hear(each.lease.holder, each.told)
        finally:
            if subscribed:  # it may be the store that was lost: who waits is to find out
                self._look_again()

    def _look_again(self) -> None:
        for candidate in self._standing.values():
            candidate.look_again()


class Candidate:
    """A flight's part in the election, to be entered before it asks.

    `handed_over` is what the buyer bought, where it was handed over by it.
    """

    def __init__(self, elections: Elections, name: str) -> None:
        self.name = name
        self.handed_over: Bought | None = None
        self._elections = elections
        self._lease: Lease | None = None
        self._news: dict[str, bytes] = {}
        self._wake = asyncio.Event()
        self._waited = False
        self._away_since: float | None = None

    def __enter__(self) -> Self:
        self._elections.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._elections.leave(self)
        if self._lease is not None:
            self._elections.end(self._lease, "again")

    async def elected(self, patience: float) -> bool:
        """Whether this flight is to buy. False after a wait: look for the answer, then ask again.

        Raises the failure of the one who was to buy, and StoreUnavailable where the store tells
        nothing within `patience` seconds.
        """
        self._wake.clear()
        began, lease = _now(), self._elections.new_lease(self.name)
        try:
            rival = await self._elections.take(lease, patience)
        except StoreUnavailable:
            await self._bear_with_it(began)
            return False
        self._away_since = None
        if rival is None:
            self._lease = lease
            return True
        await self._wait_for(rival)
        return False

    async def tell(self, work: Awaitable[Bought]) -> Bought:
        """Do the work that this flight was elected for, and tell the others what comes of it."""
        try:
            bought = await work
        except BaseException as failure:
            # A gateway that stops before its time is nothing to the others, whatever it charges.
            self._end("again" if _being_cancelled() else news_of(failure))
            raise
        if self._lease is not None:
            self._elections.deliver(self._lease, bought)
            self._lease = None
        return bought

    def hear(self, holder: str, told: bytes) -> None:
        """Take in news of this name."""
        self._news[holder] = told
        self._wake.set()

    def look_again(self) -> None:
        """End the present wait: news may have been missed."""
        self._wake.set()

    def _end(self, news: News) -> None:
        if self._lease is not None:
            self._elections.end(self._lease, news)
            self._lease = None

    async def _bear_with_it(self, began: float) -> None:
        """Pause before the next try. Raises StoreUnavailable where there is none."""
        self._away_since = self._away_since or began
        if not self._waited or _now() - self._away_since >= PATIENCE_SECONDS:
            raise StoreUnavailable
        await asyncio.sleep(PAUSE_SECONDS)

    async def _wait_for(self, rival: Rival) -> None:
        """Wait for the rival's news, or until its lease should have ended. Raises its failure."""
        if not self._waited:
            self._waited = True
            self._elections.waits()
        with suppress(TimeoutError):
            async with asyncio.timeout(rival.seconds):
                await self._wake.wait()
        news = decode_news(self._news.pop(rival.holder, b""))
        if news == "handed over":
            self.handed_over = await self._elections.fetch(Lease(self.name, rival.holder))
        if isinstance(news, GatewayError) and not self._elections.is_ours(rival.holder):
            raise news


def _now() -> float:
    return asyncio.get_running_loop().time()


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _batches(leases: Iterable[Lease]) -> Iterator[list[Lease]]:
    whole = list(leases)
    for start in range(0, len(whole), BATCH):
        yield whole[start : start + BATCH]
