"""The Redis store: its parts over one link to the server.

See `names` for the keys, `link` for how calls end, and `scripts/` for what each call does.
"""

from gateway.config.store_url import StoreUrl
from gateway.stores.port import Observe, Store
from gateway.stores.redis import opening
from gateway.stores.redis.accounts import RedisAccounts
from gateway.stores.redis.archive import RedisArchive
from gateway.stores.redis.claims import RedisClaims
from gateway.stores.redis.directory import RedisAudit, RedisDirectory, check_value
from gateway.stores.redis.history import RedisHistory
from gateway.stores.redis.link import Link
from gateway.stores.redis.usage import RedisUsage


class RedisStore(Store):
    """The store in the Redis at `place`."""

    def __init__(self, place: StoreUrl, *, observe: Observe | None = None) -> None:
        self._link = link = Link(place, observe)
        self.accounts = RedisAccounts(link)
        self.directory = RedisDirectory(link)
        self.usage = RedisUsage(link)
        self.audit = RedisAudit(link)
        self.claims = RedisClaims(link)
        self.history = RedisHistory(link)
        self.archive = RedisArchive(link)

    async def open(self) -> None:
        await opening.make_ready(self._link)

    async def close(self) -> None:
        await self._link.close()

    async def check_value(self, name: str, value: bytes) -> bool:
        with self._link.operations.observed("check_value"):
            return await check_value(self._link, name, value)

    async def confirm_reset(self) -> bool:
        with self._link.operations.observed("confirm_reset"):
            return await opening.confirm_reset(self._link)
