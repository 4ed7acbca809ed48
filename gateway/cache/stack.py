"""The caches of one gateway, composed: memory, and behind it Redis, or without one the disk.

Where pictures are in a bucket, there is no cache on the disk.
"""

from collections.abc import Callable

from msgspec.structs import replace

from gateway.cache.codec import Seal
from gateway.cache.disk import DiskCache
from gateway.cache.invalidation import Invalidation
from gateway.cache.memory import AnswerCache, MemoryCache
from gateway.cache.redis import RedisCache
from gateway.cache.tiers import TieredCache
from gateway.config.live import CurrentSettings
from gateway.core.model import Bought
from gateway.core.tasks import Service
from gateway.images.store import TIER, ImageStore
from gateway.stores.port import Store
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer
from gateway.tenants.directory import Directory


class CacheStack(Service):
    """`answers` is the cache to use; `memory` is its first tier. `wall` returns the time."""

    def __init__(
        self,
        settings: CurrentSettings,
        seal: Seal,
        store: Store,
        directory: Directory,
        images: ImageStore,
        *,
        wall: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._settings = settings
        self._images = images
        cache = settings().cache
        self.memory = MemoryCache(cache.max_bytes, cache.max_entry_bytes, observer=observer)
        self.answers: AnswerCache = self.memory
        self._redis: RedisCache | None = None
        self.disk: DiskCache | None = None
        if cache.place is not None:
            limit = cache.max_entry_bytes
            with_store = not set(cache.place.nodes).isdisjoint(settings().store.place.nodes)
            self._redis = RedisCache(
                cache.place, seal, limit, wall, observer, store.server_id, with_store
            )
            self.answers = TieredCache(self.memory, self._redis, wall)
        elif images.files is not None:
            self.disk = DiskCache(images, images.files, seal, settings, wall, observer)
            self.answers = TieredCache(self.memory, self.disk, wall)
        self._invalidation = Invalidation(
            store.audit, self.memory, self.disk, settings, lambda: directory.generation, wall
        )

    @property
    def is_shared(self) -> bool:
        """Whether other replicas find an answer here that is stored now."""
        redis = self._redis
        return redis is not None and redis.takes_answers and not redis.connection.resting

    def show_in(self, metrics: Metrics) -> None:
        """Connect the gauges of all tiers, and create their series at zero."""
        settings, memory, files = self._settings, self.memory, self._images.files
        metrics.cache_bytes.labels("memory").set_function(lambda: memory.bytes)
        metrics.cache_limit.labels("memory").set(settings().cache.max_bytes)
        metrics.cache_entries.labels("memory").set_function(lambda: len(memory))
        if files is not None:
            metrics.cache_bytes.labels(TIER).set_function(lambda: files.total)
            metrics.cache_limit.labels(TIER).set_function(lambda: settings().images.max_bytes)
            metrics.cache_entries.labels(TIER).set_function(lambda: len(files))
            metrics.begin_disk_at_zero()
        if self._redis is not None:
            metrics.begin_redis_at_zero()

    def remember(self, key: str, bought: Bought) -> None:
        """Add what is known of an answer's pictures to that answer in memory, if it is there."""
        former = self.memory.peek(key)
        if former is not None and former.at == bought.at:
            self.memory.amend(key, replace(former, pictures=bought.pictures))

    async def start(self) -> None:
        """Remove the answers purged since the last run, and connect to Redis.

        Raises StoreUnavailable.
        """
        cache = self._settings().cache
        if self.disk is not None:
            self.disk.start()
        await self._invalidation.start()
        if self._redis is not None:
            if cache.enabled:
                await self._redis.connection.open()
            await self._redis.room.start()  # in any case: SIGHUP may enable the cache

    async def close(self) -> None:
        """Write what waits for the disk, and disconnect."""
        await self._invalidation.close()
        await self.answers.close()
