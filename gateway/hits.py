"""Answers that cost nothing, on their way into the usage history.

They are merged and written once a second: a hit is answered in microseconds and must not wait for
a disk. What is not written yet is lost in a crash, but it is never money.
"""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from gateway.background import Background
from gateway.errors import StoreUnavailable
from gateway.model import Bought, Caller, Entry, ImageRequest
from gateway.ports import AccountStore
from gateway.rules.catalog import quality_label

FLUSH_SECONDS = 1.0

MAX_WAITING = 10_000
"""Entries kept while the store is away; more are dropped."""

_Group = tuple[str, str, str, str, str]


class Hits:
    """The buffer before `AccountStore.record`."""

    def __init__(self, store: AccountStore, *, new_id: Callable[[], str]) -> None:
        self._store = store
        self._new_id = new_id
        self._waiting: dict[_Group, Entry] = {}
        self._unwritten: list[Entry] = []
        self._writing = asyncio.Lock()
        self._background = Background("hits")

    def start(self) -> None:
        """Begin writing once a second."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop, and write what is left if the store can be reached."""
        await self._background.close()
        try:
            await self.flush()
        except StoreUnavailable:
            return

    def add(self, caller: Caller, request: ImageRequest, bought: Bought, now: float) -> None:
        """Note that `caller` was given `bought` for nothing at `now`."""
        quality = quality_label(request.quality)
        group = (caller.team.name, caller.key.line, request.model, request.size, quality)
        entry = self._waiting.get(group)
        if entry is None:
            team, key, model, size, quality = group
            entry = Entry(
                id=self._new_id(),
                at=now,
                team=team,
                key=key,
                model=model,
                size=size,
                quality=quality,
                outcome="cached",
                requests=0,
            )
        self._waiting[group] = replace(
            entry,
            requests=entry.requests + 1,
            images_cached=entry.images_cached + bought.images,
            saved=entry.saved + bought.cost,
        )

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable, keeping it for the next time."""
        async with self._writing:
            # A new list each time: a store that is slow may still be reading the last one.
            self._unwritten = [*self._unwritten, *self._waiting.values()][:MAX_WAITING]
            self._waiting = {}
            if self._unwritten:
                await self._store.record(self._unwritten)
                self._unwritten = []
