"""Two cache tiers: this process's memory, and behind it the Redis that all replicas share.

- Memory is read first, without waiting.
- On a miss there, Redis is read, once for all requests that wait for the same key. The answer is
  then stored in memory for the rest of its life.
- `set` writes to both. One of them is enough: an answer may be too large for one tier, and Redis
  may be unavailable.

After a fresh answer replaces an older one, other replicas serve the older one until their memory
drops it. Both are valid answers to the request.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.structs import replace

from gateway.cache.memory import AnswerCache, MemoryCache
from gateway.cache.redis import RedisCache
from gateway.core.model import Bought
from gateway.core.single_flight import Flights


class TieredCache(AnswerCache):
    """`memory` in front of `redis`, which is closed with it. `wall` is this machine's clock."""

    NAME = "tiered"

    def __init__(self, memory: MemoryCache, redis: RedisCache, wall: Callable[[], float]) -> None:
        super().__init__()
        self._memory = memory
        self._redis = redis
        self._wall = wall
        self._reads: Flights[Bought | None] = Flights()

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Bought | None:
        bought: Bought | None = self._memory.find(key)
        if bought is not None:
            return bought
        # The read is a task of its own: a client that disconnects must not cancel it for others.
        return await self._reads.lead_or_join(key, partial(self._fetch, key)).result()

    async def _set(self, key: str, value: Bought, ttl: float | None = None, **options: Any) -> bool:
        in_memory: bool = await self._memory.set(key, value, ttl=ttl)
        in_redis: bool = await self._redis.set(key, value, ttl=ttl)
        return in_memory or in_redis

    async def _delete(self, key: str, _conn: Any = None) -> int:
        # Redis first: a concurrent read would otherwise put the deleted answer back into memory.
        in_redis: int = await self._redis.delete(key)
        in_memory: int = await self._memory.delete(key)
        return in_redis or in_memory

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        in_redis: bool = await self._redis.clear()
        in_memory: bool = await self._memory.clear()
        return in_redis and in_memory

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self._reads.drain(0)
        await self._redis.close()

    async def _fetch(self, key: str) -> Bought | None:
        """Read from Redis, and store the answer in memory."""
        found = await self._redis.fetch(key)
        newer: Bought | None = self._memory.find(key)
        if newer is not None:  # bought here during the read
            return newer
        if found is None:
            return None
        left = found.expires - self._wall()
        if left <= 0:
            return None
        await self._memory.set(key, found.bought, ttl=left)
        return replace(found.bought, tier="redis")
