"""Removes answers from this gateway's memory and disk that were purged on another replica.

The audit log lists purges; it is read whenever the directory's generation changes. The purge of a
team is not looked for: from then on the team's requests have other fingerprints, see
`gateway.tenants.operations.purge_teams`.

Races that it guards against:

1. *An answer bought after the purge.* It stays: only older answers are removed.
2. *An answer read from Redis just before it was deleted there.* The log is read a second time,
   and by then the deletion is over.
3. *An answer kept over a restart.* The first reading goes back as far as answers live.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from gateway.cache.disk import DiskCache
from gateway.cache.memory import MemoryCache
from gateway.config.live import CurrentSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.model import AuditEntry
from gateway.core.tasks import Background, Service, in_turns
from gateway.tenants.store import AuditStore

CHECK_SECONDS = 0.5

OVERLAP_SECONDS = 5.0
"""How far each reading goes back behind the former one: the clocks may differ by this much."""


@dataclass(eq=False)
class Invalidation(Service):
    """Follows the purges of all replicas while its `async with` block runs.

    `generation` returns the directory's generation; `wall` dates the audit log and answers.
    """

    store: AuditStore
    memory: MemoryCache
    disk: DiskCache | None
    settings: CurrentSettings
    generation: Callable[[], int]
    wall: Callable[[], float]
    _since: float | None = None
    _seen: int | None = None
    _once_more: bool = False
    _background: Background = field(default_factory=lambda: Background("cache invalidation"))

    async def start(self) -> None:
        """Check once, then periodically. Raises StoreUnavailable."""
        await self.check()
        self._background.every(CHECK_SECONDS, self.check, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop following."""
        await self._background.close()

    async def check(self) -> None:
        """Remove the answers purged since the last check. Raises StoreUnavailable."""
        generation, now = self.generation(), self.wall()
        moved = generation != self._seen
        if not moved and not self._once_more:
            return
        if self._since is None:  # the disk has answers from before this start
            self._since = now - self.settings().cache.ttl_seconds
        purges = [
            change
            for change in await self.store.entries(self._since - OVERLAP_SECONDS, None)
            if change.action == "cache.purge" and change.team is None
        ]
        if purges:
            await self._remove(purges)
        self._seen, self._once_more = generation, moved
        if not moved:
            self._since = now

    async def _remove(self, purges: Sequence[AuditEntry]) -> None:
        """Remove what was bought before its purge: single answers, and all until the last purge."""
        purged, all_until = dict[str, float](), -inf
        for purge in purges:
            if name := (purge.after or {}).get("fingerprint"):
                purged[name] = max(purge.at, purged.get(name, -inf))
            else:
                all_until = max(purge.at, all_until)
        if self.disk is not None:  # first: a read would put the answer back into memory
            await self.disk.forget(purged, all_until)
        names = purged if all_until == -inf else [entry.key async for entry in self.memory.walk()]
        async for each in in_turns(names):
            bought = self.memory.peek(each)
            if bought is not None and bought.at <= max(all_until, purged.get(each, -inf)):
                await self.memory.delete(each)
