"""The ledger: quota steps applied exactly once, over any store that can compare and swap.

One worker a process collects the steps that wait, applies them to freshly loaded accounts in one
go, and writes the result in one swap. (A swap for each step starves under contention: tried.)

The races it guards against:

1. *Two processes write the same account.* The swap compares versions; the loser loads again and
   decides anew, after a jittered pause.
2. *The swap happened and its reply was lost.* Steps are idempotent by reservation id, so the
   same batch is simply asked again.
3. *The caller gave up, and the store was slow.* The reservation may be written yet, even after
   we saw an error (a frozen store runs what it was sent when it wakes). So giving up queues a
   `Release` that always raises the account's version: once that is written, an older swap can
   no longer win. It is retried until it is.
4. *The caller gave up, and its step still waits.* Then it was never sent and is forgotten. If it
   is in a batch, its future is cancelled, which is checked right before each application.
5. *An outcome comes while the store is away.* It is retried for as long as the process lives;
   after that the lease ends and any process sweeps the hold.
6. *An account cannot be written*, because a number in it is absurd, say from a damaged archive.
   What failed together is then written account by account, so that it stops nobody else. Its own
   steps are tried again at each sweep; purchases of it are refused.
7. *The store came back with an older state* (a dump, a replica that lagged, a back-up), and knows
   nothing of a purchase whose outcome comes. An outcome that was written has an entry: without
   one, what was bought is charged anew. The entry is looked for after the account was loaded, so
   whoever writes it meanwhile moves the account's version on, and the swap is refused.

   Only what is settled from then on can be seen to. A store that went back is not refused: that
   would turn each failover that loses a write into an outage, which an operator has to end, and
   would bring nothing back. It is logged and counted each time, by the stores.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import structlog
from msgspec.structs import replace

from gateway.core.deadline import Deadline
from gateway.core.errors import InternalError, StoreUnavailable
from gateway.core.model import Entry
from gateway.core.tasks import Background, Service
from gateway.quota.account import Account
from gateway.quota.observer import NO_OBSERVER, LedgerObserver
from gateway.quota.steps import (
    Accounts,
    Denied,
    Expire,
    Held,
    Release,
    Reserve,
    Settle,
    Step,
    StepResult,
)
from gateway.quota.store import AccountStore, Change

log = structlog.get_logger(source="ledger")

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long `close` waits for the last settlements."""

MAX_BATCH = 256
"""Steps in one swap: bounds how long one transaction holds the store's writer."""

PATIENCE_SECONDS = 2.0
"""How long a request waits for the store: to be admitted, or for its outcome to be written."""

LEAST_PATIENCE_SECONDS = 1.0
"""How long a request waits for the store, however long its earlier steps took."""

SWEEP_SECONDS = 2.0
"""How often leases are looked at. The promise is 5 s, the store's patience included."""

TOLD_SECONDS = 60.0
"""Least time between two lines about what cannot be written."""


def store_patience(own_seconds: float) -> float:
    """How long a request may wait for the store, after so much of the gateway's own time."""
    return max(LEAST_PATIENCE_SECONDS, PATIENCE_SECONDS - own_seconds)


class _Pending(Generic[T]):
    """A step that waits, and the future of its outcome. A cancelled future is a step given up."""

    def __init__(self, step: Step[T]) -> None:
        self.step = step
        self.outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class Ledger(Service):
    """Admits purchases and records what came of them.

    `spread` gives randomness in [0, 1) for the jitter. `observer` receives the events.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        spread: Callable[[], float],
        observer: LedgerObserver = NO_OBSERVER,
    ) -> None:
        self._store = store
        self._spread = spread
        self._observer = observer
        self._waiting: deque[_Pending[Any]] = deque()
        self._in_hand = 0
        self._set_aside: list[_Pending[Any]] = []
        self._silent_until: dict[str, float] = {}
        self._unavailable = StoreUnavailable
        self._sweeping: dict[str, _Pending[int]] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._background = Background("ledger")

    async def start(self) -> None:
        """Sweep what a former process left behind, then keep working. Raises StoreUnavailable."""
        self._background.spawn(self._work())
        await self._sweep()
        self._background.every(SWEEP_SECONDS, self._sweep, survive=StoreUnavailable)

    async def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait up to `timeout` seconds for steps to be written; False if some were not."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        await self._background.close()
        if self.unwritten:
            log.error("outcomes not written: a sweep will charge their holds as unknown")
        return not self.unwritten

    @property
    def unwritten(self) -> int:
        """Steps that wait to be written: in the current batch, or set aside, too."""
        return len(self._waiting) + self._in_hand + len(self._set_aside)

    async def reserve(self, step: Reserve, patience: float = PATIENCE_SECONDS) -> Held | Denied:
        """Admit or refuse a purchase.

        Raises StoreUnavailable after `patience` seconds, leaving no hold behind.
        """
        pending: _Pending[Held | Denied] = self._submit(step)
        try:
            async with Deadline(patience):
                return await pending.outcome
        except TimeoutError:
            self._give_up(step, pending)
            raise self._unavailable() from None
        except asyncio.CancelledError:
            self._give_up(step, pending)
            raise

    async def finish(self, step: Settle | Release) -> None:
        """Record a purchase's outcome: waits at most 2 s, the writing goes on until it is done.

        Being cancelled ends the wait alone: what was bought is still to be told to its buyer.
        """
        pending = self._submit(step)
        with suppress(asyncio.CancelledError):
            await asyncio.wait([pending.outcome], timeout=PATIENCE_SECONDS)

    def _give_up(self, step: Reserve, pending: _Pending[Any]) -> None:
        if pending in self._waiting:  # in no swap yet: a long outage must not pile up releases
            self._waiting.remove(pending)
        else:
            self._submit(Release(id=step.id, team=step.team, forget=True))

    def _submit(self, step: Step[T]) -> _Pending[T]:
        pending = _Pending(step)
        self._waiting.append(pending)
        self._idle.clear()
        self._wake.set()
        return pending

    async def _sweep(self) -> None:
        self._waiting += self._set_aside
        self._set_aside.clear()
        self._wake.set()
        for account in await self._store.due():
            former = self._sweeping.get(account)
            # One at a time: while nothing can be written they would pile up.
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

    def _take(self, room: int) -> list[_Pending[Any]]:
        taken = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        self._in_hand += len(taken)
        return taken

    async def _write(self, batch: list[_Pending[Any]]) -> None:
        """See a batch through: until it is written, or nobody waits for any of it."""
        pause = 0.0
        while batch := self._wanted(batch):
            try:
                written = await self._attempt(batch)
                self._unavailable = StoreUnavailable
                if written:
                    break
                pause = 0.01
            except StoreUnavailable as failure:
                self._unavailable = type(failure)
                pause = min(1.0, pause * 2 or 0.05)
            except Exception as failure:  # noqa: BLE001 - a defect must not end the only worker
                self._tell_of_failure("batch failed", failure, steps=len(batch))
                batch = await self._attempt_apart(batch)
                pause = min(1.0, pause * 2 or 0.05)
            await asyncio.sleep(pause * self._spread())
            batch += self._take(MAX_BATCH - len(batch))
        self._in_hand = 0

    async def _attempt_apart(self, batch: Iterable[_Pending[Any]]) -> list[_Pending[Any]]:
        """Write the steps of each account by themselves; those that are to be tried again."""
        accounts: dict[str, list[_Pending[Any]]] = {}
        for pending in batch:
            accounts.setdefault(pending.step.accounts[0], []).append(pending)
        left: list[_Pending[Any]] = []
        for account, steps in accounts.items():
            try:
                written = await self._attempt(steps)
            except StoreUnavailable:
                written = False
            except Exception as failure:  # noqa: BLE001 - it is logged, once a minute
                self._tell_of_failure(
                    "account cannot be written", failure, account=account, steps=len(steps)
                )
                self._put_aside(steps)
                continue
            if not written:
                left += steps
        self._in_hand = len(left)
        return left

    def _put_aside(self, steps: Iterable[_Pending[Any]]) -> None:
        """Keep outcomes for the next sweep; purchases are refused, for nothing was written."""
        for pending in steps:
            if not isinstance(pending.step, Reserve):
                self._set_aside.append(pending)
            elif not pending.outcome.done():
                pending.outcome.set_exception(StoreUnavailable())

    def _tell_of_failure(self, event: str, failure: Exception, **facts: Any) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until.get(event, now):
            self._silent_until[event] = now + TOLD_SECONDS
            log.error(event, exc_info=failure, **facts)

    def _wanted(self, batch: list[_Pending[Any]]) -> list[_Pending[Any]]:
        wanted = [pending for pending in batch if not pending.outcome.done()]
        self._in_hand -= len(batch) - len(wanted)
        return wanted

    async def _attempt(self, batch: list[_Pending[Any]]) -> bool:
        """Decide and write the batch once; False where another process wrote in between."""
        names = list(dict.fromkeys(name for pending in batch for name in pending.step.accounts))
        loaded = await self._store.load(names)
        versions = dict(zip(names, (version for _, version in loaded.accounts), strict=True))
        accounts = dict(zip(names, (account for account, _ in loaded.accounts), strict=True))
        await self._look_for_lost(batch, accounts, loaded.now)
        decided, changes, entries = _decide(batch, accounts, loaded.now)
        if changes:
            swap = [Change(name, versions[name], account) for name, account in changes.items()]
            if not await self._store.swap(swap, entries):
                return False
        for pending, applied in decided:
            if not pending.outcome.done():
                pending.outcome.set_result(applied.outcome)
        for pending, applied in decided:
            self._tell(pending.step, applied)
        self._observer.accounts_seen(accounts)
        return True

    async def _look_for_lost(
        self, batch: Iterable[_Pending[Any]], accounts: Accounts, now: float
    ) -> None:
        """Mark the settlements of purchases that the store has lost. Raises StoreUnavailable."""
        unsure: list[tuple[_Pending[Any], Settle]] = []
        reserved: dict[str, float] = {}
        for pending in batch:
            step = pending.step
            if isinstance(step, Settle) and (hold := step.unknown_hold(accounts, now)):
                unsure.append((pending, step))
                reserved[step.id] = hold.at
        if not unsure:
            return
        written = await self._store.written(reserved)
        for pending, step in unsure:
            pending.step = replace(step, lost=step.id not in written)

    def _tell(self, step: Step[Any], applied: StepResult[Any]) -> None:
        """Log what an operator should know of a step that was written."""
        match step:
            case Expire(account=account) if applied.outcome:
                log.warning("swept, charged as unknown", account=account, holds=applied.outcome)
                self._observer.holds_swept(applied.entries)
            case Settle(id=id, team=team, lost=True):
                log.warning("settled a purchase that the store had lost", id=id, team=team)
                self._observer.lost_purchase_settled()


def _decide(
    batch: Iterable[_Pending[Any]], accounts: dict[str, Account], now: float
) -> tuple[list[tuple[_Pending[Any], StepResult[Any]]], dict[str, Account], list[Entry]]:
    """Apply the steps one after the other, each to what the former left; updates `accounts`."""
    decided: list[tuple[_Pending[Any], StepResult[Any]]] = []
    changes: dict[str, Account] = {}
    entries: list[Entry] = []
    for pending in batch:
        if pending.outcome.done():
            continue
        try:
            applied: StepResult[Any] = pending.step.apply(accounts, now)
        except Exception:  # a defect in one step must not stop everybody's money
            log.exception("step failed", step=type(pending.step).__name__)
            pending.outcome.set_exception(InternalError())
            pending.outcome.exception()  # marks it as seen: perhaps nobody waits
            continue
        accounts.update(applied.changes)
        changes.update(applied.changes)
        entries += applied.entries
        decided.append((pending, applied))
    return decided, changes, entries
