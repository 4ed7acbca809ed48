"""The caches of one gateway, composed: memory, and Redis behind it where the settings name one."""

from collections.abc import Callable

from gateway.cache import snapshot
from gateway.cache.codec import Seal
from gateway.cache.invalidation import Invalidation
from gateway.cache.memory import AnswerCache, MemoryCache
from gateway.cache.redis import RedisCache
from gateway.cache.tiers import TieredCache
from gateway.config.live import CurrentSettings
from gateway.core.tasks import Service
from gateway.telemetry.observer import Observer
from gateway.tenants.directory import Directory
from gateway.tenants.store import AuditStore


class CacheStack(Service):
    """`answers` is the cache to use; `memory` is its first tier. `wall` returns the time."""

    def __init__(
        self,
        settings: CurrentSettings,
        seal: Seal,
        audit: AuditStore,
        directory: Directory,
        *,
        wall: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._settings = settings
        self._wall = wall
        cache = settings().cache
        self.memory = MemoryCache(cache.max_bytes, cache.max_entry_bytes, observer=observer)
        self.answers: AnswerCache = self.memory
        self._redis: RedisCache | None = None
        if cache.place is not None:
            limit = cache.max_entry_bytes
            self._redis = RedisCache(cache.place, seal, limit, wall, observer)
            self.answers = TieredCache(self.memory, self._redis, wall)
        self._invalidation = Invalidation(audit, self.memory, lambda: directory.generation, wall)

    @property
    def is_shared(self) -> bool:
        """Whether other replicas find an answer here that is stored now."""
        return self._redis is not None and not self._redis.connection.resting

    async def start(self) -> None:
        """Restore the snapshot, remove the answers purged since, and connect to Redis.

        Raises StoreUnavailable.
        """
        cache = self._settings().cache
        await snapshot.put_back(self.memory, cache, self._wall)
        await self._invalidation.start()
        if self._redis is not None and cache.enabled:
            await self._redis.connection.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._invalidation.close()
        await self.answers.close()

    async def keep(self) -> None:
        """Write the snapshot for the next start."""
        await snapshot.keep(self.memory, self._settings().cache, self._wall)
