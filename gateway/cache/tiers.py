"""Two tiers of cache: this process' memory, and behind it the Redis that gateways share.

- What memory has is answered from there; nothing waits.
- What it has not is read from Redis, once for all who ask for it at the same time, and then kept
  in memory for what is left of its life.
- What is set goes into both. One of them is enough: an answer that is too large for one, or a
  Redis that is away, leaves it to the other.

A fresh answer that replaces another one is seen by other gateways when their memory lets go of
theirs: until then both are right answers to the request.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer
from msgspec.structs import replace

from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.core.model import Bought
from gateway.core.single_flight import Flights


class TieredCache(BaseCache):  # type: ignore[misc]  # aiocache is published without types
    """`memory` before `redis`; closing it closes both. `wall` is this machine's clock."""

    NAME = "tiered"

    def __init__(self, memory: MemoryCache, redis: RedisCache, wall: Callable[[], float]) -> None:
        super().__init__(serializer=NullSerializer(), timeout=0)
        self._memory = memory
        self._redis = redis
        self._wall = wall
        self._reads: Flights[Bought | None] = Flights()

    # -- what aiocache's public methods call ----------------------------------------------------

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Bought | None:
        bought: Bought | None = self._memory.find(key)
        if bought is not None:
            return bought
        # In a task of its own: a client that leaves must not take the others' reading with it.
        return await self._reads.lead_or_join(key, partial(self._fetch, key)).result()

    async def _multi_get(
        self, keys: Sequence[str], encoding: str | None = None, _conn: Any = None
    ) -> list[Bought | None]:
        return [await self._get(key) for key in keys]

    async def _set(
        self,
        key: str,
        value: Bought,
        ttl: float | None = None,
        _cas_token: Any = None,
        _conn: Any = None,
    ) -> bool:
        in_memory: bool = await self._memory.set(key, value, ttl=ttl)
        in_redis: bool = await self._redis.set(key, value, ttl=ttl)
        return in_memory or in_redis

    async def _multi_set(
        self, pairs: Iterable[tuple[str, Bought]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        return all([await self._set(key, value, ttl) for key, value in pairs])

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return bool(await self._memory.exists(key) or await self._redis.exists(key))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        # Redis first: a reading meanwhile would put back into memory what was deleted there.
        in_redis: int = await self._redis.delete(key)
        in_memory: int = await self._memory.delete(key)
        return in_redis or in_memory

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        in_redis: bool = await self._redis.clear(namespace)
        in_memory: bool = await self._memory.clear(namespace)
        return in_redis and in_memory

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self._reads.drain(0)
        await self._redis.close()
        await self._memory.close()

    # -- from Redis into memory -----------------------------------------------------------------

    async def _fetch(self, key: str) -> Bought | None:
        kept = await self._redis.fetch(key)
        newer: Bought | None = self._memory.find(key)
        if newer is not None:  # bought here while Redis was asked
            return newer
        if kept is None:
            return None
        left = kept.expires - self._wall()
        if left <= 0:
            return None
        await self._memory.set(key, kept.bought, ttl=None if math.isinf(left) else left)
        return replace(kept.bought, tier="redis")
