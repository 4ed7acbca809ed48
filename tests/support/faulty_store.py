"""A store in front of a real one that is slow, away, loses replies or freezes, as a test asks.

It forwards every call that it does not spoil, and counts the calls by operation.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Claim, Entry
from gateway.quota.store import AccountStore, Change, Loaded
from gateway.reporting.alerts.ports import ClaimStore
from gateway.reporting.request_lines import (
    ErrorKind,
    HistoryBatch,
    HourLatency,
    LineFilter,
    RequestLine,
)
from gateway.reporting.store import HistoryStore
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryChanges, DirectoryStore, DirectoryWrite

T = TypeVar("T")


class FaultyStore:
    """A store with faults, by attribute.

    - `seconds`: how long each operation takes beforehand; `lag`: how long its reply takes.
    - `away`: the operations that fail.
    - `losing`: how many of the next swaps, and batches of request history, are done while their
      reply is lost.
    - `freezing`: how many of the next swaps are only kept, for `thaw`; with `leaving` the store
      is away from the first of them on.
    - `defects`: what the next swaps raise.
    """

    def __init__(self, store: Store) -> None:
        self.accounts = _Accounts(self, store.accounts)
        self.directory = _Directory(self, store.directory)
        self.claims = _Claims(self, store.claims)
        self.history = _History(self, store.history)
        self.usage = store.usage
        self.asked: Counter[str] = Counter()
        self.away: frozenset[str] = frozenset()
        self.seconds = 0.0
        self.lag = 0.0
        self.losing = 0
        self.freezing = 0
        self.leaving = False
        self.defects: list[Exception] = []

    def leave(self, *operations: str) -> None:
        """Be away: for these operations, or for all."""
        every = (
            *("load", "swap", "written", "record", "record_use", "write_activity"),
            *("due", "changes"),
        )
        self.away = frozenset(operations or every)

    def come_back(self) -> None:
        self.away = frozenset()

    @property
    def frozen(self) -> int:
        """How many swaps are kept."""
        return len(self.accounts.frozen)

    async def thaw(self) -> list[bool]:
        """Run the frozen swaps, long after their callers saw them fail."""
        return await self.accounts.thaw()

    async def ask(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        """Count and spoil one call."""
        self.asked[operation] += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if operation in self.away:
            raise StoreUnavailable
        result = await work()
        if self.lag:
            await asyncio.sleep(self.lag)
        return result

    def lose_reply(self) -> None:
        """Raise where this reply is one of those to be lost."""
        if self.losing:
            self.losing -= 1
            raise StoreUnavailable


class _Accounts:
    def __init__(self, faults: FaultyStore, store: AccountStore) -> None:
        self._faults = faults
        self._store = store
        self.frozen: list[tuple[Sequence[Change], Sequence[Entry]]] = []

    async def thaw(self) -> list[bool]:
        frozen, self.frozen = self.frozen, []
        return [await self._store.swap(*swap) for swap in frozen]

    async def load(self, names: Sequence[str]) -> Loaded:
        return await self._faults.ask("load", lambda: self._store.load(names))

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        return await self._faults.ask("swap", lambda: self._swap(changes, entries))

    async def _swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        faults = self._faults
        if faults.defects:
            raise faults.defects.pop(0)
        if faults.freezing:
            faults.freezing -= 1
            self.frozen.append((changes, entries))
            if faults.leaving:
                faults.leave()
            raise StoreUnavailable
        swapped = await self._store.swap(changes, entries)
        faults.lose_reply()
        return swapped

    async def record(self, entries: Sequence[Entry]) -> None:
        await self._faults.ask("record", lambda: self._store.record(entries))

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        return await self._faults.ask("written", lambda: self._store.written(purchases))

    async def due(self) -> list[str]:
        return await self._faults.ask("due", self._store.due)


class _Directory:
    def __init__(self, faults: FaultyStore, store: DirectoryStore) -> None:
        self._faults = faults
        self._store = store

    async def changes(self, since: int) -> DirectoryChanges:
        return await self._faults.ask("changes", lambda: self._store.changes(since))

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        return await self._store.commit(generation, write)

    async def record_use(self, uses: Mapping[str, float]) -> None:
        await self._faults.ask("record_use", lambda: self._store.record_use(uses))

    async def last_uses(self) -> dict[str, float]:
        return await self._store.last_uses()


class _Claims:
    def __init__(self, faults: FaultyStore, store: ClaimStore) -> None:
        self._faults = faults
        self._store = store

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        return await self._faults.ask(
            "claim", lambda: self._store.claim(name, owner, seconds, note)
        )

    async def complete(self, name: str, owner: str, seconds: float, note: bytes = b"") -> None:
        await self._faults.ask(
            "complete_claim", lambda: self._store.complete(name, owner, seconds, note)
        )

    async def current(self) -> list[Claim]:
        return await self._store.current()


class _History:
    def __init__(self, faults: FaultyStore, store: HistoryStore) -> None:
        self._faults = faults
        self._store = store

    async def write(self, batch: HistoryBatch) -> None:
        await self._faults.ask("write_activity", lambda: self._write(batch))

    async def _write(self, batch: HistoryBatch) -> None:
        await self._store.write(batch)
        self._faults.lose_reply()

    async def lines(
        self, wanted: LineFilter, limit: int, before: str | None = None
    ) -> list[RequestLine]:
        return await self._store.lines(wanted, limit, before)

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        return await self._store.errors(start, end, team)

    async def latency(self, start: float, end: float) -> list[HourLatency]:
        return await self._store.latency(start, end)

    async def forget(self, now: float) -> None:
        await self._store.forget(now)
