"""The Redis store: its parts over one link to the server.

See `names` for the keys, `link` for how calls end, and `scripts/` for what each call does.
"""

import time
from collections.abc import Callable

from gateway.config.store_url import StoreUrl
from gateway.stores.port import Observe, Store
from gateway.stores.redis import opening
from gateway.stores.redis.accounts import RedisAccounts
from gateway.stores.redis.archive import RedisArchive
from gateway.stores.redis.audit import RedisAudit
from gateway.stores.redis.claims import RedisClaims
from gateway.stores.redis.directory import RedisDirectory, check_value
from gateway.stores.redis.history import RedisHistory
from gateway.stores.redis.link import Link
from gateway.stores.redis.usage import RedisUsage

CONNECTIONS = 8
"""To each server. The ledger uses one at a time, and everything else shares the others."""

PATIENCE_SECONDS = 2.0


class RedisStore(Store):
    """The store in the Redis at `place`.

    `patience` bounds an operation, in seconds. As "pool_wait", `observe` receives how long each
    call waited for a connection.
    """

    def __init__(
        self,
        place: StoreUrl,
        *,
        connections: int = CONNECTIONS,
        patience: float = PATIENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        observe: Observe | None = None,
    ) -> None:
        self._place = place
        self._link = link = Link(
            place,
            connections=connections,
            patience=patience,
            monotonic=monotonic,
            observe=observe,
        )
        self.accounts = RedisAccounts(link)
        self.directory = RedisDirectory(link)
        self.usage = RedisUsage(link)
        self.audit = RedisAudit(link)
        self.claims = RedisClaims(link)
        self.history = RedisHistory(link)
        self.archive = RedisArchive(link, place)

    async def open(self) -> None:
        await opening.make_ready(self._link, self._place)

    async def close(self) -> None:
        await self._link.close()

    async def check_value(self, name: str, value: bytes) -> bool:
        with self._link.operation("check_value"):
            return await check_value(self._link, name, value)

    async def confirm_reset(self) -> bool:
        with self._link.operation("confirm_reset"):
            return await opening.confirm_reset(self._link)
