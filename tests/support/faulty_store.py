"""A store in front of a real one that is slow, away, loses replies or freezes, as a test asks.

It forwards every call that it does not spoil, and counts the calls by operation.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.errors import StoreUnavailable
from gateway.quota.store import AccountStore, PurchaseStore
from gateway.reporting.store import ClaimStore, HistoryStore
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryStore


class FaultyStore:
    """A store with faults, by attribute. Operations have the names of the ports' methods.

    - `seconds`: how long each operation takes beforehand; `lag`: how long its reply takes.
    - `losing`: how many of the next swaps, and batches of request history, are done while their
      reply is lost.
    - `freezing`: how many of the next swaps are only kept, for `thaw`; with `leaving` the store
      is away from the first of them on.
    - `defects`: what the next swaps raise.
    """

    def __init__(self, store: Store) -> None:
        self.accounts: AccountStore = _Part(self, store.accounts)
        self.directory: DirectoryStore = _Part(self, store.directory)
        self.claims: ClaimStore = _Part(self, store.claims)
        self.history: HistoryStore = _Part(self, store.history)
        self.usage = store.usage
        self.purchases: PurchaseStore = _Part(self, store.purchases)
        self.asked: Counter[str] = Counter()
        self.seconds = 0.0
        self.lag = 0.0
        self.losing = 0
        self.freezing = 0
        self.leaving = False
        self.defects: list[Exception] = []
        self._is_away: Callable[[str], bool] = lambda operation: False
        self._frozen: list[Callable[[], Awaitable[bool]]] = []

    def leave(self, *operations: str) -> None:
        """Be away: for these operations, or for all."""
        self._is_away = lambda operation: not operations or operation in operations

    def come_back(self) -> None:
        self._is_away = lambda operation: False

    @property
    def frozen(self) -> int:
        """How many swaps are kept."""
        return len(self._frozen)

    async def thaw(self) -> list[bool]:
        """Run the frozen swaps, long after their callers saw them fail."""
        frozen, self._frozen = self._frozen, []
        return [await swap() for swap in frozen]

    async def ask(self, operation: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Count and spoil one call."""
        self.asked[operation] += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self._is_away(operation):
            raise StoreUnavailable
        if operation == "swap":
            self._spoil(work)
        result = await work()
        if self.losing and operation in ("swap", "write"):
            self.losing -= 1
            raise StoreUnavailable
        if self.lag:
            await asyncio.sleep(self.lag)
        return result

    def _spoil(self, swap: Callable[[], Awaitable[bool]]) -> None:
        """Raise if this swap has a defect or is frozen."""
        if self.defects:
            raise self.defects.pop(0)
        if self.freezing:
            self.freezing -= 1
            self._frozen.append(swap)
            if self.leaving:
                self.leave()
            raise StoreUnavailable


class _Part:
    """One port of the store."""

    def __init__(self, faults: FaultyStore, port: object) -> None:
        self._faults = faults
        self._port = port

    def __getattr__(self, operation: str) -> Any:
        async def call(*arguments: Any, **named: Any) -> Any:
            method = getattr(self._port, operation)
            return await self._faults.ask(operation, lambda: method(*arguments, **named))

        return call
