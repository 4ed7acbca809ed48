"""Keeping the usage history small and quick: what is too old is forgotten, a short step at a time.

Every gateway of a store does this. Steps of several at once only find less to do.
"""

import asyncio
from collections.abc import Callable

from gateway.core.errors import StoreUnavailable
from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import Background
from gateway.reporting.store import UsageStore

LOOK_SECONDS = 10.0
"""How often it is looked whether there is anything to do."""

PAUSE_SECONDS = 0.02
"""Between two steps: whoever buys comes first."""


class Upkeep:
    """Does it in the background. `keep_days` is how long the history is kept, 0 for ever; `wall`
    tells the time.
    """

    def __init__(
        self, store: UsageStore, *, keep_days: Callable[[], int], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._keep_days = keep_days
        self._wall = wall
        self._background = Background("upkeep")

    def start(self) -> None:
        """Begin to look."""
        self._background.every(LOOK_SECONDS, self.tidy, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop. What was begun is done later, by whoever comes."""
        await self._background.close()

    async def tidy(self) -> None:
        """Do all that there is to do now. Raises StoreUnavailable."""
        more = True
        while more:
            now, days = self._wall(), self._keep_days()
            before = now - days * DAY_SECONDS if days else None
            more = await self._store.tidy(now, before)
            await asyncio.sleep(PAUSE_SECONDS)
