"""The caches of a replica, with a real Redis behind its memory."""

import time
from collections.abc import Awaitable, Callable

from gateway.cache.codec import Seal
from gateway.cache.memory import MemoryCache
from gateway.cache.redis import RedisCache
from gateway.cache.room import no_server
from gateway.cache.tiers import TieredCache
from gateway.config.store_url import parse_store_url
from gateway.core.model import Bought
from gateway.telemetry.observer import Observer

SEAL = Seal(b"a pepper of tests, long enough")


class CacheReplica(Observer):
    """`memory`, `redis` and `tiers`, which is both together. They close when the block ends."""

    def __init__(
        self,
        url: str,
        *,
        wall: Callable[[], float] = time.time,
        max_bytes: int = 2**26,
        max_entry_bytes: int = 2**25,
        seal: Seal = SEAL,
        store_server: Callable[[], Awaitable[str | None]] = no_server,
    ) -> None:
        self.lookups: list[str] = []
        """The results of look-ups in Redis."""
        self.memory = MemoryCache(max_bytes, 2**25)
        self.redis = RedisCache(
            parse_store_url(url), seal, max_entry_bytes, wall, self, store_server
        )
        self.tiers = TieredCache(self.memory, self.redis, wall)

    def cache_lookup(self, tier: str, result: str) -> None:
        assert tier == "redis"
        self.lookups.append(result)

    async def __aenter__(self) -> "CacheReplica":
        await self.redis.connection.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.tiers.close()


async def found_in(cache: RedisCache, key: str) -> Bought | None:
    """The answer that Redis has for a key."""
    answer = await cache.fetch(key)
    return answer.bought if answer else None
