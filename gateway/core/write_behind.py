"""A buffer that writes to a store in the background, once a second.

Callers add to it without waiting: a cache hit is answered in microseconds and must not wait for a
disk. A crash loses at most the last second, so nothing that is money goes through here.

1. While the store is unavailable, the oldest batch is kept as it is and written again first. A
   write that raised StoreUnavailable may have happened, so `write` must be idempotent.
2. A new batch is collected only after the former one is written. A slow store may still be reading
   the former one, so `collect` returns a new object each time.
3. A batch that the store refuses for any other reason is logged and dropped. Otherwise it would
   block all later ones.
4. One write runs at a time, and `flush` waits for the one that runs.
"""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Generic, TypeVar

import structlog

from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service

log = structlog.get_logger(source="write_behind")

FLUSH_SECONDS = 1.0

T = TypeVar("T")


class WriteBehind(ABC, Service, Generic[T]):
    """Writes batches of type `T` from `async with` on, and the rest when that block ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._unwritten: T | None = None
        self._writing = asyncio.Lock()
        self._background = Background(name)

    @abstractmethod
    def collect(self) -> T | None:
        """Take everything added since the last call, as one batch; None if there is nothing.

        The amount held meanwhile must be bounded, however long the store is unavailable.
        """

    @abstractmethod
    async def write(self, batch: T) -> None:
        """Write the batch. Writing it a second time changes nothing. Raises StoreUnavailable."""

    async def start(self) -> None:
        """Write once a second."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)

    async def close(self) -> None:
        """Write the rest, unless the store is unavailable."""
        await self._background.close()
        with suppress(StoreUnavailable):  # the outage itself is logged already
            await self.flush()

    async def flush(self) -> None:
        """Write everything added so far. Raises StoreUnavailable and keeps it for the next time."""
        async with self._writing:
            if self._unwritten is not None:
                await self._write(self._unwritten)
            self._unwritten = self.collect()
            if self._unwritten is not None:
                await self._write(self._unwritten)

    async def _write(self, batch: T) -> None:
        try:
            await self.write(batch)
        except StoreUnavailable:
            raise
        except Exception:  # a batch that can never be written must not keep out all later ones
            log.exception("batch dropped: the store refuses it", buffer=self._name)
        self._unwritten = None
