"""A store in front of a real one that is slow, away, loses replies or freezes, as it is told.

What it does not spoil it hands on. It counts what it was asked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Claim, Entry, UsageRow
from gateway.quota.store import Change, Loaded
from gateway.reporting.request_lines import Batch, ErrorKind, Latency, Line, Wanted
from gateway.tenants.store import DirectoryChanges, DirectoryWrite
from tests.conformance import Store

T = TypeVar("T")


class FaultyStore:
    """A store with faults, by attribute.

    - `seconds`: how long each operation takes beforehand; `lag`: how long its reply takes.
    - `away`: the operations that fail.
    - `losing`: how many of the next swaps, and batches of activity, are done without telling.
    - `freezing`: how many of the next swaps are only kept, for `thaw`; with `leaving` the store
      is away from the first of them on.
    - `defects`: what the next swaps raise.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._frozen: list[tuple[Sequence[Change], Sequence[Entry]]] = []
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
        all_of_them = (
            *("load", "swap", "written", "record", "record_use", "write_activity"),
            *("due", "changes"),
        )
        self.away = frozenset(operations or all_of_them)

    def come_back(self) -> None:
        self.away = frozenset()

    @property
    def frozen(self) -> int:
        """How many swaps are kept."""
        return len(self._frozen)

    async def thaw(self) -> list[bool]:
        """Run what was frozen, long after everybody was told that it failed."""
        frozen, self._frozen = self._frozen, []
        return [await self._store.swap(*swap) for swap in frozen]

    async def _ask(self, operation: str, work: Callable[[], Awaitable[T]]) -> T:
        self.asked[operation] += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if operation in self.away:
            raise StoreUnavailable
        result = await work()
        if self.lag:
            await asyncio.sleep(self.lag)
        return result

    async def _swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        if self.defects:
            raise self.defects.pop(0)
        if self.freezing:
            self.freezing -= 1
            self._frozen.append((changes, entries))
            if self.leaving:
                self.leave()
            raise StoreUnavailable
        swapped = await self._store.swap(changes, entries)
        if self.losing:
            self.losing -= 1
            raise StoreUnavailable
        return swapped

    # -- the ports ------------------------------------------------------------------------------

    async def load(self, names: Sequence[str]) -> Loaded:
        return await self._ask("load", lambda: self._store.load(names))

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        return await self._ask("swap", lambda: self._swap(changes, entries))

    async def record(self, entries: Sequence[Entry]) -> None:
        await self._ask("record", lambda: self._store.record(entries))

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        return await self._ask("written", lambda: self._store.written(purchases))

    async def due(self) -> list[str]:
        return await self._ask("due", self._store.due)

    async def changes(self, since: int) -> DirectoryChanges:
        return await self._ask("changes", lambda: self._store.changes(since))

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        return await self._store.commit(generation, write)

    async def record_use(self, uses: Mapping[str, float]) -> None:
        await self._ask("record_use", lambda: self._store.record_use(uses))

    async def last_uses(self) -> dict[str, float]:
        return await self._store.last_uses()

    async def usage(
        self, by: Sequence[str], start: float | None, end: float | None
    ) -> list[UsageRow]:
        return await self._store.usage(by, start, end)

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        return await self._ask("claim", lambda: self._store.claim(name, owner, seconds, note))

    async def complete_claim(
        self, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        await self._ask(
            "complete_claim", lambda: self._store.complete_claim(name, owner, seconds, note)
        )

    async def claims(self) -> list[Claim]:
        return await self._store.claims()

    async def write_activity(self, batch: Batch) -> None:
        await self._ask("write_activity", lambda: self._write_activity(batch))

    async def _write_activity(self, batch: Batch) -> None:
        await self._store.write_activity(batch)
        if self.losing:
            self.losing -= 1
            raise StoreUnavailable

    async def activity(self, wanted: Wanted, limit: int, before: str | None = None) -> list[Line]:
        return await self._store.activity(wanted, limit, before)

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        return await self._store.errors(start, end, team)

    async def latency(self, start: float, end: float) -> list[Latency]:
        return await self._store.latency(start, end)

    async def forget_activity(self, now: float) -> None:
        await self._store.forget_activity(now)
