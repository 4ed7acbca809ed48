"""The ledger: applies quota steps exactly once, over any store with compare and swap.

Each process has one worker. It collects the waiting steps, applies them to freshly loaded accounts
and writes the result in one swap. (One swap per step starves under contention: tried.)

It guards against these races:

1. *Two processes write the same account.* The swap compares versions. The loser loads the accounts
   again and decides again, after a pause with jitter.
2. *The swap happened and its reply was lost.* Steps are idempotent by reservation id, so the
   worker sends the same batch again. It writes the accounts of the lost swap even where no step
   changes them any more: only a swap that the store acknowledges proves that replicas have what
   the lost one wrote, and that the lost one cannot happen any more.
3. *The caller gave up, and the store was slow.* The reservation may still be written after the
   error, because a frozen store runs its old commands when it wakes. So giving up queues a
   `Release`. The worker retries it until it is written, and with it the accounts of the lost swap
   (race 2). From then on their versions keep the older swap from succeeding.
4. *The caller gave up, and its step still waits.* The step was never sent, and is dropped. If it is
   in a batch, its future is cancelled, which is checked right before each application.
5. *An outcome arrives while the store is away.* The worker retries it for as long as the process
   lives. After that the lease ends, and any process sweeps the hold.
6. *An account cannot be written*, because a number in it is out of range, for example from a
   damaged archive. The worker then writes the batch account by account, so that other accounts
   are not blocked. Steps of the broken account are retried at each sweep, and its purchases are
   refused.
7. *The store came back with an older state* (a dump, a lagging replica, a backup) without the
   purchase whose outcome arrives. Every written outcome has a usage entry. If there is none, the
   purchase is charged again. The entry is read after the account. A process that writes the entry
   meanwhile raises the account's version, so the swap fails.

   The ledger can only repair what is settled from then on. It does not refuse a store that went
   back: then each failover that loses a write would be an outage until an operator acts, and
   nothing would be recovered. The stores log and count each case.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from gateway.core.deadline import Deadline
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.quota.batch import Books, Pending, decide
from gateway.quota.named import Answered, Claim, Unanswered
from gateway.quota.operations import Operation, Operations, as_of, others
from gateway.quota.step import Accounts, Step, StepResult
from gateway.quota.steps import (
    Deliver,
    Denied,
    Expire,
    Held,
    Leave,
    Reserve,
    Settle,
    Taken,
)
from gateway.quota.store import (
    NO_OBSERVER,
    AccountStore,
    LedgerObserver,
)

log = structlog.get_logger(source="ledger")

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long `close` waits for the last settlements."""

MAX_BATCH = 256
"""The most steps in one swap. It limits how long one transaction holds the store's writer."""

PATIENCE_SECONDS = 2.0
"""How long a request waits for the store: to be admitted, or for its outcome to be written."""

LEAST_PATIENCE_SECONDS = 1.0
"""How long a request waits for the store, however long its earlier steps took."""

SWEEP_SECONDS = 2.0
"""The interval of looking for expired leases. The promise is 5 s, including a slow store."""

LOG_SECONDS = 60.0
"""The least time between two log lines about the same failure."""


def store_patience(own_seconds: float) -> float:
    """How long a request may wait for the store, after so much of the gateway's own time."""
    return max(LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS - own_seconds)


@dataclass(eq=False)
class Ledger(Service):
    """Admits purchases and records their outcomes.

    `spread` returns randomness in [0, 1) for the jitter. `observer` receives the events.
    """

    store: AccountStore
    spread: Callable[[], float]
    observer: LedgerObserver = NO_OBSERVER
    _waiting: deque[Pending[Any]] = field(default_factory=deque)
    _in_hand: int = 0
    _unsure: set[str] = field(default_factory=set)
    _set_aside: list[Pending[Any]] = field(default_factory=list)
    _silent_until: dict[str, float] = field(default_factory=dict)
    _unavailable: type[StoreUnavailable] = StoreUnavailable
    _sweeping: dict[str, Pending[int]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _background: Background = field(default_factory=lambda: Background("ledger"))

    def __post_init__(self) -> None:
        self._idle.set()

    async def start(self) -> None:
        """Sweep holds that a former process left, and start the worker. Raises StoreUnavailable."""
        self._background.spawn(self._work())
        await self._sweep()
        self._background.every(SWEEP_SECONDS, self._sweep, survive=StoreUnavailable)

    async def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait up to `timeout` seconds for steps to be written. Returns False if some were not."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        await self._background.close()
        if self.unwritten:
            log.error("outcomes not written: a sweep will charge their reservations as unknown")
        return not self.unwritten

    @property
    def unwritten(self) -> int:
        """The number of steps that are not written yet."""
        return len(self._waiting) + self._in_hand + len(self._set_aside)

    async def reserve(
        self, step: Reserve, patience: float = PATIENCE_SECONDS
    ) -> Held | Denied | Taken:
        """Admit or refuse a purchase, or find the operation that its request takes over.

        Raises StoreUnavailable after `patience` seconds, leaving no hold behind.
        """
        return await self._admit(step, self._submit(step), patience)

    async def claim(self, step: Claim, patience: float = PATIENCE_SECONDS) -> Operation:
        """Give a name to a request, or return the operation that holds it.

        Raises StoreUnavailable after `patience` seconds, and gives the name up.
        """
        return await self._admit(step, self._submit(step), patience)

    async def _admit(self, step: Reserve | Claim, pending: Pending[T], patience: float) -> T:
        try:
            async with Deadline(patience):
                return await pending.outcome
        except TimeoutError:
            self._give_up(step, pending)
            raise self._unavailable() from None
        except asyncio.CancelledError:
            self._give_up(step, pending)
            raise

    async def finish(self, step: Step[T]) -> T | None:
        """Record an outcome. Waits at most 2 s, but retries until it is written.

        Returns the step's outcome, or None if it is not written yet. A cancelled caller only stops
        waiting, because the buyer must still get the images.
        """
        pending = self._submit(step)
        with suppress(asyncio.CancelledError):
            await asyncio.wait([pending.outcome], timeout=PATIENCE_SECONDS)
        outcome = pending.outcome
        is_written = outcome.done() and not outcome.cancelled() and outcome.exception() is None
        return outcome.result() if is_written else None

    def note(self, step: Leave | Deliver | Answered | Unanswered) -> None:
        """Record a change of an operation in the background."""
        self._submit(step)

    async def operation(self, record: str, id: str | None, gateway: str) -> Operation | None:
        """Return an operation as `gateway` sees it, without an `id` that of a name.

        Raises StoreUnavailable.
        """
        loaded = await self.store.load((), [record])
        ((operations, _),) = loaded.records
        alive = await self._alive(others(operations, gateway))
        if id is None:
            id = operations.all[0].id if operations.all else ""
        found = operations.get(id)
        return None if found is None else as_of(found, gateway, alive, loaded.now)

    def _give_up(self, step: Reserve | Claim, pending: Pending[Any]) -> None:
        if pending in self._waiting:  # never sent: a long outage must not pile up releases
            self._waiting.remove(pending)
        else:
            self._submit(step.release(forget=True))

    def _submit(self, step: Step[T]) -> Pending[T]:
        pending = Pending(step)
        self._waiting.append(pending)
        self._idle.clear()
        self._wake.set()
        return pending

    async def _sweep(self) -> None:
        self._waiting += self._set_aside
        self._set_aside.clear()
        self._wake.set()
        for account in await self.store.due():
            former = self._sweeping.get(account)
            # At most one per account: else they pile up while nothing can be written.
            if former is None or former.outcome.done():
                self._sweeping[account] = self._submit(Expire(account))

    # -- the worker -----------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._write(self._take(MAX_BATCH))
            if not self._set_aside:
                self._idle.set()

    def _take(self, room: int) -> list[Pending[Any]]:
        taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        self._in_hand += len(taken)
        return taken

    async def _write(self, batch: list[Pending[Any]]) -> None:
        """Write a batch. Returns once it is written, or no caller waits for any of its steps."""
        pause = 0.0
        while batch := self._wanted(batch):
            try:
                written = await self._attempt(batch)
                self._unavailable = StoreUnavailable
                if written:
                    break
                pause = 0.01
            except StoreUnavailable as failure:
                # StoreLost must reach the callers: only its text says that an operator has to act.
                self._unavailable = type(failure)
                pause = min(1.0, pause * 2 or 0.05)
            except Exception as failure:  # noqa: BLE001 - a defect must not end the only worker
                self._log_failure("batch failed", failure, steps=len(batch))
                batch = await self._attempt_apart(batch)
                pause = min(1.0, pause * 2 or 0.05)
            await asyncio.sleep(pause * self.spread())
            batch += self._take(MAX_BATCH - len(batch))
        self._in_hand = 0

    async def _attempt_apart(self, batch: Iterable[Pending[Any]]) -> list[Pending[Any]]:
        """Write the steps account by account. Returns the steps to try again."""
        accounts: dict[str, list[Pending[Any]]] = {}
        for pending in batch:
            step = pending.step
            accounts.setdefault((*step.accounts, step.record)[0], []).append(pending)
        left: list[Pending[Any]] = []
        for account, steps in accounts.items():
            try:
                written = await self._attempt(steps)
            except StoreUnavailable:
                written = False
            except Exception as failure:  # noqa: BLE001 - it is logged, once a minute
                self._log_failure(
                    "account cannot be written", failure, account=account, steps=len(steps)
                )
                self._put_aside(steps)
                continue
            if not written:
                left += steps
        self._in_hand = len(left)
        return left

    def _put_aside(self, steps: Iterable[Pending[Any]]) -> None:
        """Keep outcomes for the next sweep, and refuse purchases: nothing was written."""
        for pending in steps:
            if not isinstance(pending.step, Reserve | Claim):
                self._set_aside.append(pending)
            elif not pending.outcome.done():
                pending.outcome.set_exception(StoreUnavailable())

    def _log_failure(self, event: str, failure: Exception, **facts: Any) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until.get(event, now):
            self._silent_until[event] = now + LOG_SECONDS
            log.error(event, exc_info=failure, **facts)

    def _wanted(self, batch: list[Pending[Any]]) -> list[Pending[Any]]:
        wanted = [pending for pending in batch if not pending.outcome.done()]
        self._in_hand -= len(batch) - len(wanted)
        return wanted

    async def _attempt(self, batch: list[Pending[Any]]) -> bool:
        """Decide and write the batch once. Returns False if another process wrote in between."""
        names = list(dict.fromkeys(name for pending in batch for name in pending.step.accounts))
        records = list(dict.fromkeys(p.step.record for p in batch if p.step.record))
        asked = asyncio.get_running_loop().time()
        books = Books(names, records, await self.store.load(names, records))
        await self._look_for_lost(batch, books.accounts, books.now)
        await self._complete_wishes(batch, books.records, asked)
        decided, changed, entries = decide(batch, books)
        changed |= self._unsure.intersection([*names, *records])
        if changed:
            accounts, operations = books.changes(changed)
            try:
                won = await self.store.swap(accounts, entries, operations)
            except StoreUnavailable:
                self._unsure.update(changed)
                raise
            if not won:
                return False
            self._unsure.difference_update(changed)
        for pending, applied in decided:
            if not pending.outcome.done():
                pending.outcome.set_result(applied.outcome)
        for pending, applied in decided:
            self._report(pending.step, applied)
        self.observer.accounts_seen(books.accounts)
        return True

    async def _complete_wishes(
        self, batch: Iterable[Pending[Any]], records: Mapping[str, Operations], asked: float
    ) -> None:
        """Complete wishes for equal requests of which there are operations.

        Their age is that at the time `asked`, before the accounts were loaded. If it included the
        time that the store's reply took, a repeat could look older than the outcome it repeats.
        Raises StoreUnavailable: the store is asked for other gateways that matter here.
        """
        waiting = [
            (pending, pending.step, pending.step.wish)
            for pending in batch
            if isinstance(pending.step, Reserve | Claim)
            and pending.step.wish
            and records[pending.step.record].all
        ]
        gateways = set[str]()
        for _, step, wish in waiting:
            gateways |= others(records[step.record], wish.gateway)
        alive = await self._alive(gateways)
        for pending, step, wish in waiting:
            wish = replace(wish, alive=alive, age=wish.age + asked - pending.since)
            pending.step, pending.since = replace(step, wish=wish), asked

    async def _alive(self, gateways: set[str]) -> dict[str, float]:
        return await self.store.alive(gateways) if gateways else {}

    async def _look_for_lost(
        self, batch: Iterable[Pending[Any]], accounts: Accounts, now: float
    ) -> None:
        """Mark settlements whose purchases the store has lost. Raises StoreUnavailable."""
        unsure: list[tuple[Pending[Any], Settle]] = []
        reserved: dict[str, float] = {}
        for pending in batch:
            step = pending.step
            if isinstance(step, Settle) and (hold := step.unknown_hold(accounts, now)):
                unsure.append((pending, step))
                reserved[step.id] = hold.at
        if not unsure:
            return
        written = await self.store.written(reserved)
        for pending, step in unsure:
            pending.step = replace(step, lost=step.id not in written)

    def _report(self, step: Step[Any], applied: StepResult[Any]) -> None:
        """Log and report events of a written step that an operator should know."""
        match step:
            case Expire(account=account) if applied.outcome:
                log.warning("swept, charged as unknown", account=account, holds=applied.outcome)
                self.observer.holds_swept(applied.entries)
            case Settle(id=id, team=team, lost=True):
                log.warning("settled a purchase that the store had lost", id=id, team=team)
                self.observer.lost_purchase_settled()
