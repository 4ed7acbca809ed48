"""Answers that were taken out of the cache on another gateway leave this one's memory too.

The log of changes says which; it is read whenever the directory has moved on. A team's purge is
not looked for: its answers have other names from then on, see
`gateway.tenants.operations.purge_teams`.

What it guards against:

1. *An answer that was bought after the purge.* It stays: only what is older goes.
2. *An answer that was read from Redis just before it was deleted there.* The log is read a second
   time, and by then the deletion is over.
3. *An answer that was kept over a restart.* The first reading goes back to the oldest answer.
"""

from collections.abc import Callable

from gateway.cache.memory import MemoryCache
from gateway.core.errors import StoreUnavailable
from gateway.core.model import AuditEntry
from gateway.core.tasks import Background
from gateway.tenants.store import AuditStore

LOOK_SECONDS = 0.5

AGAIN_SECONDS = 5.0
"""How far back each reading goes behind the one before: clocks are that close together."""


class Purges:
    """Follows the purges of a store's gateways. `generation` tells which state of the directory is
    known here; `wall` is the time that the log and answers are dated by.
    """

    def __init__(
        self,
        store: AuditStore,
        memory: MemoryCache,
        generation: Callable[[], int],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._memory = memory
        self._generation = generation
        self._wall = wall
        self._since = min((bought.at for _, bought, _ in memory.living()), default=wall())
        self._seen: int | None = None
        self._once_more = False
        self._background = Background("purges")

    def start(self) -> None:
        """Follow until `close`."""
        self._background.every(LOOK_SECONDS, self.look, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop following."""
        await self._background.close()

    async def look(self) -> None:
        """Let go of what was purged since the last look. Raises StoreUnavailable."""
        generation, now = self._generation(), self._wall()
        moved = generation != self._seen
        if not moved and not self._once_more:
            return
        for change in await self._store.entries(self._since - AGAIN_SECONDS, None):
            if change.action == "cache.purge" and change.team is None:
                await self._forget(change)
        self._seen, self._once_more = generation, moved
        if not moved:
            self._since = now

    async def _forget(self, purge: AuditEntry) -> None:
        name = (purge.after or {}).get("fingerprint")
        names = [name] if name else [each for each, _, _ in self._memory.living()]
        for each in names:
            bought = self._memory.peek(each)
            if bought is not None and bought.at <= purge.at:
                await self._memory.delete(each)
