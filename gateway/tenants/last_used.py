"""When each key was last used, on its way into the store.

A key's use is written within about a second, and then not again for a minute: authenticating must
not wait for a disk. What is not written yet is lost in a crash, and is at most a minute of it.
"""

import asyncio
from collections.abc import Callable

from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background
from gateway.tenants.store import DirectoryStore

FLUSH_SECONDS = 1.0

QUIET_SECONDS = 60.0
"""How long nothing more is written of a key once its use is."""


class LastUse:
    """The buffer before `DirectoryStore.record_use`. `wall` tells the time."""

    def __init__(self, store: DirectoryStore, *, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._noted: dict[str, float] = {}
        self._waiting: dict[str, float] = {}
        self._writing = asyncio.Lock()
        self._background = Background("last use")

    def start(self) -> None:
        """Begin writing."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop, and write what is left if the store can be reached."""
        await self._background.close()
        try:
            await self.flush()
        except StoreUnavailable:
            return

    def note(self, id: str) -> None:
        """Note that a key is used now, unless a use of the last minute has been noted."""
        now = self._wall()
        # A clock that was set back leaves times ahead of it: they must not silence a key.
        if not 0 <= now - self._noted.get(id, float("-inf")) < QUIET_SECONDS:
            self._noted[id] = self._waiting[id] = now

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable, keeping it for the next time."""
        async with self._writing:
            uses, self._waiting = self._waiting, {}
            if not uses:
                return
            try:
                await self._store.record_use(uses)
            except BaseException:
                self._waiting = uses | self._waiting
                raise
