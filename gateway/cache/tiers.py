"""Two cache tiers: this process's memory, and behind it a second one.

That is the Redis that all replicas share, or the disk, whose answers survive a restart.

- Memory is read first, without waiting.
- On a miss there, the second tier is read, once for all requests that wait for the same key. The
  answer is then stored in memory for the rest of its life.
- `set` writes to both. One of them is enough: an answer may be too large for one tier, and Redis
  may be unavailable.

After a fresh answer replaces an older one in Redis, other replicas serve the older one until their
memory drops it. Both are valid answers to the request.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from gateway.cache.codec import CachedAnswer
from gateway.cache.memory import AnswerCache, MemoryCache
from gateway.core.model import Bought
from gateway.core.single_flight import Flights


class SecondTier(Protocol):
    """The tier behind memory. Its failures are misses; it counts its own look-ups."""

    @property
    def NAME(self) -> Literal["disk", "redis"]:
        """The name of the tier in metrics."""

    async def fetch(self, key: str, *, counted: bool = True) -> CachedAnswer | None:
        """Return the answer of this key, or None."""

    async def set(self, key: str, bought: Bought, ttl: float | None = None) -> bool:
        """Store an answer for `ttl` seconds, or without an end. Returns whether it is stored."""

    async def delete(self, key: str) -> int:
        """Delete an answer. Returns how many there were."""

    async def clear(self) -> bool:
        """Delete all answers of this store. Returns False if that failed."""

    async def close(self) -> None:
        """Close it."""


class TieredCache(AnswerCache):
    """`memory` before `second`, which is closed with it. `wall` is this machine's clock."""

    NAME = "tiered"

    def __init__(self, memory: MemoryCache, second: SecondTier, wall: Callable[[], float]) -> None:
        super().__init__()
        self._memory = memory
        self._second = second
        self._wall = wall
        self._reads: Flights[Bought | None] = Flights()

    async def get(self, key: Any, default: Any = None, **options: Any) -> Any:
        """As aiocache's, without its wrappers where memory has the answer."""
        value = self._memory.find(key)
        if value is not None:
            return value
        return await super().get(key, default, **options)

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Bought | None:
        # The read is a task of its own: a client that disconnects must not cancel it for others.
        return await self._reads.lead_or_join(key, partial(self._fetch, key)).result()

    async def look(self, key: str) -> Bought | None:
        """From memory, else from the second tier, without a copy in memory: see `AnswerCache`."""
        bought: Bought | None = self._memory.peek(key)
        if bought is not None:
            return bought
        found = await self._second.fetch(key, counted=False)
        return None if found is None else replace(found.bought, tier=self._second.NAME)

    async def _set(self, key: str, value: Bought, ttl: float | None = None, **options: Any) -> bool:
        in_memory: bool = await self._memory.set(key, value, ttl=ttl)
        in_second: bool = await self._second.set(key, value, ttl=ttl)
        return in_memory or in_second

    async def _delete(self, key: str, _conn: Any = None) -> int:
        # Memory last: a concurrent read would otherwise put the deleted answer back into it.
        in_second: int = await self._second.delete(key)
        in_memory: int = await self._memory.delete(key)
        return in_second or in_memory

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        in_second: bool = await self._second.clear()
        in_memory: bool = await self._memory.clear()
        return in_second and in_memory

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self._reads.drain(0)
        await self._second.close()

    async def _fetch(self, key: str) -> Bought | None:
        """Read from the second tier, and store the answer in memory."""
        found = await self._second.fetch(key)
        newer: Bought | None = self._memory.find(key)
        if newer is not None:  # bought here during the read
            return newer
        if found is None:
            return None
        left = found.expires - self._wall()
        if left <= 0:
            return None
        await self._memory.set(key, found.bought, ttl=left)
        return replace(found.bought, tier=self._second.NAME)
