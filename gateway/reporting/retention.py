"""Deletes what is older than the settings keep: usage, buyers of pictures, history and audit.

Every replica does this. Usage is deleted in short steps; steps that several replicas take at the
same time only find less to do.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config.live import CurrentSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import Background, Service
from gateway.reporting.store import HistoryStore, PictureStore, UsageStore
from gateway.tenants.store import AuditStore

USAGE_SECONDS = 10.0
HISTORY_SECONDS = 600.0
PICTURES_SECONDS = 3_600.0
AUDIT_SECONDS = 3_600.0
"""Seconds between two deletions of each."""

PAUSE_SECONDS = 0.02
"""Pause between two steps, because purchases have priority in the store."""


@dataclass(eq=False)
class Retention(Service):
    """Deletes in the background while its `async with` block runs. `wall` returns the time."""

    usage: UsageStore
    history: HistoryStore
    pictures: PictureStore
    audit: AuditStore
    settings: CurrentSettings
    wall: Callable[[], float]
    _background: Background = field(default_factory=lambda: Background("retention"))

    async def start(self) -> None:
        """Delete old audit entries, then start the periodic jobs. Raises StoreUnavailable."""
        await self.delete_audit()
        every = self._background.every
        every(USAGE_SECONDS, self.delete_usage, survive=StoreUnavailable)
        every(PICTURES_SECONDS, self.delete_pictures, survive=StoreUnavailable)
        every(HISTORY_SECONDS, self.delete_history, survive=StoreUnavailable)
        every(AUDIT_SECONDS, self.delete_audit, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop. A later run deletes the rest."""
        await self._background.close()

    async def delete_usage(self) -> None:
        """Delete all usage that is too old now. Raises StoreUnavailable."""
        more = True
        while more:
            now, days = self.wall(), self.settings().usage.keep_days
            before = now - days * DAY_SECONDS if days else None
            more = await self.usage.tidy(now, before)
            await asyncio.sleep(PAUSE_SECONDS)

    async def delete_pictures(self) -> None:
        """Delete who bought pictures, where usage is too old. Raises StoreUnavailable."""
        days = self.settings().usage.keep_days
        more = days > 0
        while more:
            more = await self.pictures.forget(self.wall() - days * DAY_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)

    async def delete_history(self) -> None:
        """Delete request lines, errors and latency that are too old. Raises StoreUnavailable."""
        await self.history.forget(self.wall())

    async def delete_audit(self) -> None:
        """Delete audit entries that are too old. Raises StoreUnavailable."""
        days = self.settings().admin.audit_days
        await self.audit.forget(self.wall() - days * DAY_SECONDS)
