"""The cache in Redis, which all replicas share.

- A Redis outage never fails a request: `fetch` finds nothing and `set` returns False, after at most
  a second.
- A Redis key is a prefix, the mark of the store's seal and a fingerprint. Records are sealed and
  contain their key. A record that is damaged, not sealed by this store's gateways or stored under
  another key is deleted and counts as a miss.
- Times in Redis are times of its own clock, so replicas whose clocks differ agree on when an
  answer was bought and when it expires. The expiry is absolute: a frozen Redis may run a command
  long after the gateway has given up on it, and an image must not outlive its URL then.
- Large records are encoded and sealed in a thread, so that other requests go on.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, TypeVar, cast

import structlog
from msgspec.structs import replace
from redis.exceptions import OutOfMemoryError

from gateway.cache.codec import (
    HEAD_BYTES,
    OVERHEAD_BYTES,
    SEAL_BYTES,
    CachedAnswer,
    Seal,
    decode,
    encode,
)
from gateway.cache.redis_connection import RedisConnection, RedisUnavailable
from gateway.cache.room import Room, no_server
from gateway.config.store_url import StoreUrl
from gateway.core.model import Bought
from gateway.stores.redis.client import RedisClient
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="cache")

T = TypeVar("T")

PREFIX = "gateway:answer:2:"
"""The number is raised whenever the content or the meaning of a record changes."""

LARGE_BYTES = 262_144
"""Records from this size on go to a thread: a megabyte takes 3 ms, 0.7 ms of it for the seal."""

LOG_SECONDS = 60.0
"""Least time between two log lines about deleted records."""

CLEAR_COUNT = 1_000


@dataclass(eq=False)
class RedisCache:
    """Stores answers of at most `max_entry_bytes` in the Redis at `place`.

    All gateways of a store have the same `seal`. `wall` is this machine's clock. The observer
    counts look-ups: "hit", "miss", or "error" if Redis did not answer. `store_server` and
    `with_store` say where the store is: see `gateway.cache.room`.

    `takes_answers` is whether the last answer was stored.
    """

    NAME: ClassVar[Literal["redis"]] = "redis"

    place: StoreUrl = field(repr=False)
    seal: Seal
    max_entry_bytes: int
    wall: Callable[[], float]
    observer: Observer = NO_OBSERVER
    store_server: Callable[[], Awaitable[str | None]] = no_server
    with_store: bool = False
    _silent_until: float = float("-inf")

    def __post_init__(self) -> None:
        self.connection = RedisConnection(self.place, self.wall)
        self._prefix = f"{PREFIX}{self.seal.mark}:"
        self.room = Room(self.connection, self._prefix, self.store_server, self.with_store)
        self.takes_answers = True

    async def fetch(self, key: str, *, counted: bool = True) -> CachedAnswer | None:
        """The answer of this key, with times by this machine's clock, or None.

        The observer counts the look-up unless `counted` is false.
        """
        observer = self.observer if counted else NO_OBSERVER
        try:
            data, shift = await self.connection.run(partial(self._read, key))
        except RedisUnavailable:
            observer.cache_lookup("redis", "error")
            return None
        answer = None if data is None else await self._checked(key, data, shift)
        if answer is not None and answer.expires <= self.wall():
            answer = None
        observer.cache_lookup("redis", "miss" if answer is None else "hit")
        return answer

    async def set(self, key: str, bought: Bought, ttl: float | None = None) -> bool:
        """Store an answer for `ttl` seconds, or without an end. Returns whether it is stored."""
        answer = CachedAnswer(key, self.wall() + ttl if ttl else math.inf, bought)
        self.takes_answers = stored = await self._set(answer)
        return stored

    async def _set(self, answer: CachedAnswer) -> bool:
        size = len(answer.bought.body)
        if size > self.max_entry_bytes or not await self.room.fits(size):
            return False
        with suppress(RedisUnavailable):
            return await self.connection.run(partial(self._write, answer))
        return False

    async def delete(self, key: str) -> int:
        """Delete an answer. Returns how many there were."""
        with suppress(RedisUnavailable):
            return await self.connection.run(partial(_unlink, self._prefix + key))
        return 0

    async def clear(self) -> bool:
        """Delete all answers of this store. Returns False if Redis is unavailable."""
        with suppress(RedisUnavailable):
            # Without a time limit: the scan goes over all keys of the Redis.
            await self.connection.run(partial(_unlink_all, self._prefix), seconds=None)
            return True
        return False

    async def close(self) -> None:
        """Close all connections."""
        await self.room.close()
        await self.connection.close()

    # -- records --------------------------------------------------------------------------------

    async def _read(self, key: str, client: RedisClient) -> tuple[bytes | None, float]:
        shift = await self.connection.clock_shift(client)
        # A longer record is not ours, and must not fill the memory.
        longest = SEAL_BYTES + HEAD_BYTES + OVERHEAD_BYTES + self.max_entry_bytes
        data = await client.getrange(self._prefix + key, 0, longest)
        return cast(bytes, data) or None, shift  # the client decodes nothing

    async def _write(self, answer: CachedAnswer, client: RedisClient) -> bool:
        shifted = _shifted(answer, await self.connection.clock_shift(client))
        record = await _run(len(answer.bought.body), partial(_sealed, self.seal, shifted))
        expires_ms = None if math.isinf(shifted.expires) else int(shifted.expires * 1000)
        try:
            await client.set(self._prefix + answer.key, record, pxat=expires_ms)
        except OutOfMemoryError:
            if not self.room.refused():
                raise
            return False
        return True

    async def _checked(self, key: str, data: bytes, shift: float) -> CachedAnswer | None:
        """The answer in the record, if it is whole and has this key; else the record is deleted."""
        answer = await _run(len(data), partial(_opened, self.seal, data))
        if answer is not None and answer.key == key:
            return _shifted(answer, -shift)
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + LOG_SECONDS
            log.warning("damaged or foreign answer deleted", bytes=len(data))
        await self.delete(key)
        return None


def _sealed(seal: Seal, answer: CachedAnswer) -> bytes:
    return seal.sealed(encode(answer))


def _opened(seal: Seal, data: bytes) -> CachedAnswer | None:
    record = seal.opened(data)
    if record is None:
        return None
    return decode(bytes(record[:HEAD_BYTES]), record[HEAD_BYTES:])


def _shifted(answer: CachedAnswer, seconds: float) -> CachedAnswer:
    """The same answer by a clock that is `seconds` ahead."""
    bought = replace(answer.bought, at=answer.bought.at + seconds)
    return CachedAnswer(answer.key, answer.expires + seconds, bought)


async def _run(size: int, work: Callable[[], T]) -> T:
    """Run `work` on a record of this size: in a thread if the record is large."""
    return await asyncio.to_thread(work) if size >= LARGE_BYTES else work()


async def _unlink(name: str, client: RedisClient) -> int:
    return int(await client.unlink(name))


async def _unlink_all(prefix: str, client: RedisClient) -> None:
    async for name in client.scan_iter(match=f"{prefix}*", count=CLEAR_COUNT):
        await client.unlink(name)
