"""Records when each key was last used.

A use is written within about a second, and then no further use of that key for a minute, because
authentication must not wait for a disk. A crash loses at most the last second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.core.tasks import WriteBehind
from gateway.tenants.store import DirectoryStore

QUIET_SECONDS = 60.0
"""How long further uses of a key are left out after one is recorded."""


@dataclass(eq=False)
class LastUsed(WriteBehind[Mapping[str, float]]):
    """The buffer in front of `DirectoryStore.record_use`. `wall` returns the time."""

    name = "last used"
    store: DirectoryStore
    wall: Callable[[], float]
    _recorded: dict[str, float] = field(default_factory=dict)
    _waiting: dict[str, float] = field(default_factory=dict)

    def note(self, id: str) -> None:
        """Record that a key is used now, unless a use in the last minute is recorded."""
        now = self.wall()
        # A clock that was set back leaves times in its future: they must not silence a key.
        if not 0 <= now - self._recorded.get(id, float("-inf")) < QUIET_SECONDS:
            self._recorded[id] = self._waiting[id] = now

    def collect(self) -> Mapping[str, float] | None:
        """The uses that are not written yet, by key id."""
        uses, self._waiting = self._waiting, {}
        return uses or None

    async def write(self, batch: Mapping[str, float]) -> None:
        """Write them; the store keeps the latest time of each key."""
        await self.store.record_use(batch)
