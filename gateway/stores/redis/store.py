"""The Redis store: its parts over one link to the server.

See `names` for the keys, `link` for how calls end, and `scripts/` for what each call does.
"""

from collections.abc import Sequence

from gateway.config.store_url import StoreUrl
from gateway.core.tasks import Background
from gateway.stores.port import Observe, Store, StoreSetting
from gateway.stores.redis import opening
from gateway.stores.redis.accounts import RedisAccounts
from gateway.stores.redis.archive import RedisArchive
from gateway.stores.redis.claims import RedisClaims
from gateway.stores.redis.directory import RedisAudit, RedisDirectory, check_value
from gateway.stores.redis.durability import settings_of
from gateway.stores.redis.history import RedisHistory
from gateway.stores.redis.link import FAILURES, Link
from gateway.stores.redis.pictures import RedisPictures
from gateway.stores.redis.purchases import RedisPurchases
from gateway.stores.redis.usage import RedisUsage

FOLLOW_SECONDS = 0.5
"""The interval of asking sentinels, or a cluster's nodes, whether the primary has moved."""


class RedisStore(Store):
    """The store in the Redis at `place`. `wait_replicas` replicas must acknowledge a swap."""

    def __init__(
        self, place: StoreUrl, *, observe: Observe | None = None, wait_replicas: int = 0
    ) -> None:
        self._background = Background("store")
        self._link = link = Link(place, observe, wait_replicas)
        self.accounts = RedisAccounts(link)
        self.directory = RedisDirectory(link)
        self.usage = RedisUsage(link)
        self.audit = RedisAudit(link)
        self.claims = RedisClaims(link)
        self.history = RedisHistory(link)
        self.purchases = RedisPurchases(link)
        self.pictures = RedisPictures(link)
        self.archive = RedisArchive(link)

    async def open(self) -> None:
        await opening.make_ready(self._link)
        # A former primary takes writes for a while after a planned failover, and loses them.
        self._background.every(FOLLOW_SECONDS, self._link.follow_primary, survive=FAILURES)

    async def close(self) -> None:
        await self._background.close()
        await self._link.close()

    async def check_value(self, name: str, value: bytes) -> bool:
        with self._link.operations.observed("check_value"):
            return await check_value(self._link, name, value)

    async def settings(self) -> Sequence[StoreSetting]:
        with self._link.operations.observed("settings"):
            return await settings_of(self._link)

    async def server_id(self) -> str | None:
        with self._link.operations.observed("server_id"):
            return (await opening.facts_of(self._link)).get("run_id")

    async def confirm_reset(self) -> bool:
        with self._link.operations.observed("confirm_reset"):
            return await opening.confirm_reset(self._link)
