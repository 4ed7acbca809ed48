"""The cache in Redis, which gateways share: aiocache's interface over records of answers.

- Redis is never a request's failure: where it is away, `get` finds nothing and `set` answers
  False, after a second at the most.
- Keys are a prefix, the mark of the store's gateways and a fingerprint. Records are sealed, and say
  whose they are; one that is damaged, not sealed by these gateways or not what its key says is
  deleted, and was not found.
- Times in Redis are times of its own clock, so gateways whose clocks differ agree on when an
  answer was bought and when it expires. The moment goes with the value: a command that a frozen
  Redis runs long after it was given up must not make a picture outlive its URL.
- Work on large records is done in a thread, so that the others' requests go on.

aiocache's `add`, `expire`, `increment` and locks are not offered.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import structlog
from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer
from msgspec.structs import replace

from gateway.cache.codec import BESIDES_BYTES, HEAD_BYTES, Kept, decode, encode
from gateway.cache.redis_connection import Away, RedisLine
from gateway.cache.seal import SEAL_BYTES, Seal
from gateway.config.store_url import StoreUrl
from gateway.core.model import Bought
from gateway.stores.redis.client import RedisClient

log = structlog.get_logger(source="cache")

T = TypeVar("T")

PREFIX = "gateway:answer:2:"
"""The number is raised whenever what a record holds, or what it means, becomes another."""

LARGE_BYTES = 262_144
"""From here on a record is worth a thread: a megabyte takes 3 milliseconds, 0.7 of it the seal."""

TOLD_SECONDS = 60.0
"""Least time between two lines about records that were deleted."""

CLEAR_COUNT = 1_000


class RedisCache(BaseCache):  # type: ignore[misc]  # aiocache is published without types
    """Keeps answers in the Redis at `place`, none longer than `max_entry_bytes`.

    `seal` is that of the store's gateways, `wall` this machine's clock. `on_lookup` hears what came
    of each look-up: "hit", "miss", or "error" where Redis did not tell.
    """

    NAME = "redis"

    def __init__(
        self,
        place: StoreUrl,
        seal: Seal,
        max_entry_bytes: int,
        wall: Callable[[], float],
        on_lookup: Callable[[str], None] = lambda result: None,
        *,
        ttl: float | None = None,
    ) -> None:
        super().__init__(serializer=NullSerializer(), ttl=ttl, timeout=0)
        self._line = RedisLine(place, wall)
        self._seal = seal
        self._prefix = f"{PREFIX}{seal.mark}:"
        self._silent_until = float("-inf")
        self._max_entry_bytes = max_entry_bytes
        self._wall = wall
        self._on_lookup = on_lookup

    @property
    def away(self) -> bool:
        """Whether the last command failed, a moment ago."""
        return self._line.resting

    async def open(self) -> None:
        """Connect. A Redis that is away is a line in the log, no failure."""
        await self._line.open()

    async def fetch(self, key: str) -> Kept | None:
        """The answer under this key with its times by this machine's clock, or None."""
        try:
            data, shift = await self._line.ask(partial(self._read, key))
        except Away:
            self._on_lookup("error")
            return None
        kept = None if data is None else await self._checked(key, data, shift)
        if kept is not None and kept.expires <= self._wall():
            kept = None
        self._on_lookup("miss" if kept is None else "hit")
        return kept

    # -- what aiocache's public methods call ----------------------------------------------------

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Bought | None:
        kept = await self.fetch(key)
        return kept.bought if kept else None

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
        if len(value.body) > self._max_entry_bytes:
            return False
        kept = Kept(key, self._wall() + ttl if ttl else math.inf, value)
        try:
            await self._line.ask(partial(self._write, kept))
        except Away:
            return False
        return True

    async def _multi_set(
        self, pairs: Iterable[tuple[str, Bought]], ttl: float | None = None, _conn: Any = None
    ) -> bool:
        return all([await self._set(key, value, ttl) for key, value in pairs])

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return bool(await self._ask_number(lambda client: client.exists(self._prefix + key)))

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return await self._ask_number(lambda client: client.unlink(self._prefix + key))

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        try:
            await self._line.ask(partial(_clear, self._prefix + (namespace or "")), seconds=None)
        except Away:
            return False
        return True

    async def _close(self, *args: Any, _conn: Any = None, **kwargs: Any) -> None:
        await self._line.close()

    # -- records --------------------------------------------------------------------------------

    async def _ask_number(self, work: Callable[[RedisClient], Any]) -> int:
        try:
            return int(await self._line.ask(work))
        except Away:
            return 0

    async def _read(self, key: str, client: RedisClient) -> tuple[bytes | None, float]:
        shift = await self._line.shift(client)
        # A longer one is none of ours: what others put there must not fill the memory.
        longest = SEAL_BYTES + HEAD_BYTES + BESIDES_BYTES + self._max_entry_bytes
        data = await client.getrange(self._prefix + key, 0, longest)
        return cast(bytes, data) or None, shift  # the client decodes nothing

    async def _write(self, kept: Kept, client: RedisClient) -> None:
        moved = _moved(kept, await self._line.shift(client))
        record = await _worked_on(len(kept.bought.body), partial(_sealed, self._seal, moved))
        ends = None if math.isinf(moved.expires) else int(moved.expires * 1000)
        await client.set(self._prefix + kept.key, record, pxat=ends)

    async def _checked(self, key: str, data: bytes, shift: float) -> Kept | None:
        """What the record holds, if it is whole and belongs to this key; else it is deleted."""
        kept = await _worked_on(len(data), partial(_decoded, self._seal, data))
        if kept is not None and kept.key == key:
            return _moved(kept, -shift)
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + TOLD_SECONDS
            log.warning("damaged or foreign answer deleted", bytes=len(data))
        await self._delete(key)
        return None


def _sealed(seal: Seal, kept: Kept) -> bytes:
    return seal.sealed(encode(kept))


def _decoded(seal: Seal, data: bytes) -> Kept | None:
    record = seal.opened(data)
    if record is None:
        return None
    return decode(bytes(record[:HEAD_BYTES]), record[HEAD_BYTES:])


def _moved(kept: Kept, seconds: float) -> Kept:
    """The same by a clock that is ahead by so much."""
    bought = replace(kept.bought, at=kept.bought.at + seconds)
    return Kept(kept.key, kept.expires + seconds, bought)


async def _worked_on(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size >= LARGE_BYTES else work()


async def _clear(prefix: str, client: RedisClient) -> None:
    async for name in client.scan_iter(match=f"{prefix}*", count=CLEAR_COUNT):
        await client.unlink(name)
