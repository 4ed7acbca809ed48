"""Room for the ledger in a Redis that is both store and cache: there the cache gives way.

A Redis that may evict nothing refuses all writes once its `maxmemory` is used, purchases too. So
where the cache is on the store's server, it leaves a quarter of that memory to the store: it
deletes its own oldest answers first, and stores none that does not fit. Memory that others fill is
noticed within a second.

Whether they share a server is decided by the server's own id. Two URLs or database numbers may lead
to one server, and a failover may bring them together.

In a cluster the fullest of the nodes counts, whichever of them has the store.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from redis.asyncio import RedisCluster
from redis.exceptions import NoPermissionError

from gateway.cache.redis_connection import RedisConnection, RedisUnavailable
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.stores.redis.client import RedisClient

log = structlog.get_logger(source="cache")

FULL = 0.75
"""The share of `maxmemory` that the cache may fill."""

ROOMY = 0.6
"""The share down to which it deletes answers once the memory is full."""

RELAXED = 0.4
"""The share below which it no longer counts as giving way. Deletions alone do not lead there."""

LARGEST = 0.0625
"""The share that one answer may take. While it arrives, the server holds it twice."""

WATCH_SECONDS = 1.0
READING_SECONDS = 0.1
"""How long a reading of the memory serves for further writes."""

RECOGNISE_SECONDS = 15.0
"""The interval of comparing the servers of cache and store."""

SCANNED = 1_000
PAGES = 10
"""The most scans of so many keys before an answer goes on: others may fill this Redis, too."""

BATCHES = 8
"""The oldest eighth of the answers found is deleted before the memory is read again."""


class Room(Service):
    """Keeps memory free on the server of `connection`, where that is the store's.

    The cache's keys begin with `prefix`. `store_server` returns the id of the store's server, or
    None if it is unknown; then `same_place` decides.
    """

    def __init__(
        self,
        connection: RedisConnection,
        prefix: str,
        store_server: Callable[[], Awaitable[str | None]],
        same_place: bool,
    ) -> None:
        self._gives_way = False
        self._connection = connection
        self._prefix = prefix
        self._store_server = store_server
        self._same_place = same_place
        self._shared = False
        self._target: dict[str, Any] = {}
        """The fullest node, as an argument of a cluster's commands."""
        self._used = self._limit = 0  # bytes
        self._read_at = self._recognised_at = float("-inf")
        self._cursor = 0
        self._deleting = asyncio.Lock()
        self._background = Background("cache room")

    async def start(self) -> None:
        """Compare the servers, then watch the memory once a second."""
        await self._watch()
        self._background.every(WATCH_SECONDS, self._watch)

    async def close(self) -> None:
        """Stop watching."""
        await self._background.close()

    async def fits(self, size: int) -> bool:
        """Whether a record of so many bytes may be stored, perhaps after older ones are deleted."""
        if not self._shared:
            return True
        needed = 2 * size
        try:
            await self._read_again(READING_SECONDS)
            if self._limit and size > self._limit * LARGEST:
                return False
            await self._make_room(needed)
        except RedisUnavailable:
            return False
        if fits := self._has_room(needed):
            self._used += size
        return fits

    def refused(self) -> bool:
        """Note that the server refused a record for lack of memory. False if it is not the store's.

        The next look deletes answers.
        """
        self._read_at = float("-inf")
        return self._shared

    # -- the servers ----------------------------------------------------------------------------

    async def _watch(self) -> None:
        now = _now()
        try:
            if now - self._recognised_at >= RECOGNISE_SECONDS:
                await self._recognise()
                self._recognised_at = now
            if self._shared:
                await self._read_again(0)
                await self._make_room(0)
        except RedisUnavailable:
            self._recognised_at = float("-inf")  # another server may take its place

    async def _recognise(self) -> None:
        """Find out whether the store is on the cache's server, or on one of its nodes."""
        with suppress(StoreUnavailable):
            store = await self._store_server()
            servers = await self._connection.run(_servers)
            self._shared = store in servers if store and servers else self._same_place

    async def _read_again(self, seconds: float) -> None:
        """Read the memory, unless it was read within so many seconds."""
        if _now() - self._read_at < seconds:
            return
        self._used, self._limit, self._target = await self._connection.run(_memory)
        self._read_at = _now()
        if self._gives_way and self._used < self._limit * RELAXED:
            self._gives_way = False
            log.info("the cache no longer gives way to the store")

    def _has_room(self, size: int) -> bool:
        return not self._limit or self._used + size <= self._limit * FULL

    # -- deleting -------------------------------------------------------------------------------

    async def _make_room(self, size: int) -> None:
        """Delete the oldest answers if so many bytes have no room."""
        async with self._deleting:
            if not self._has_room(size):
                await self._read_again(0)  # it was partly estimated
            if self._has_room(size):
                return
            if not self._gives_way:
                self._gives_way = True
                log.warning(
                    "the cache gives way to the store: the Redis of both is nearly full",
                    used=self._used,
                    maxmemory=self._limit,
                )
            goal = min(ROOMY * self._limit, FULL * self._limit - size)
            for _ in range(PAGES):
                if await self._delete_from_page(goal):
                    break

    async def _delete_from_page(self, goal: float) -> bool:
        """Delete the oldest answers of the next page of keys.

        Returns whether that was enough, or there are no more.
        """
        scan = partial(_scan, self._cursor, f"{self._prefix}*", self._target)
        self._cursor, names = await self._connection.run(scan)
        step = -(-len(names) // BATCHES) or 1
        for start in range(0, len(names), step):
            await self._connection.run(partial(_unlink, names[start : start + step]))
            await self._read_again(0)
            if self._used <= goal:
                return True
        return self._cursor == 0 and not names


async def no_server() -> None:
    """The server of a store that is a file."""


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _servers(client: RedisClient) -> set[str]:
    """The ids of the servers behind a client, as far as they show them."""
    return {id for _, facts in await _info(client, "server") if (id := facts.get("run_id"))}


async def _memory(client: RedisClient) -> tuple[int, int, dict[str, Any]]:
    """The bytes that the fullest server uses, its limit (0 for none), and how to select it."""
    found = [(*_bytes(facts), target) for target, facts in await _info(client, "memory")]
    return max(found, key=lambda each: each[0] / (each[1] or math.inf))


def _bytes(facts: dict[str, Any]) -> tuple[int, int]:
    # As the server counts it: buffers for replicas and for the append-only file are free.
    used = facts.get("used_memory", 0) - facts.get("mem_not_counted_for_evict", 0)
    return used, facts.get("maxmemory", 0)


async def _info(client: RedisClient, section: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What each server reports, after the argument of a cluster's commands that selects it.

    Nothing where this user may not read it.
    """
    targets: list[dict[str, Any]] = [{}]
    if isinstance(client, RedisCluster):
        targets = [{"target_nodes": node} for node in client.get_primaries()]
    try:
        return [(target, await client.info(section, **target)) for target in targets]
    except NoPermissionError:
        return [({}, {})]


async def _scan(
    cursor: int, pattern: str, target: dict[str, Any], client: RedisClient
) -> tuple[int, list[bytes]]:
    """The next cursor, and the keys found: those that expire first come first."""
    found: Any = await client.scan(cursor, match=pattern, count=SCANNED, **target)
    cursors, names = found
    if target:  # a cluster's client returns a cursor for each node
        (cursors,) = cursors.values()
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.pexpiretime(name)  # type: ignore[unused-awaitable]  # it is only collected
    ends = await pipeline.execute() if names else []
    oldest = sorted(zip(names, ends, strict=True), key=lambda pair: _end(pair[1]))
    return cursors, [name for name, _ in oldest]


def _end(milliseconds: int) -> float:
    """When a key expires; one without an end has a negative number in Redis."""
    return math.inf if milliseconds < 0 else milliseconds


async def _unlink(names: Sequence[bytes], client: RedisClient) -> None:
    pipeline = client.pipeline(transaction=False)
    for name in names:
        # Not its method: for a cluster that would run at once.
        pipeline.execute_command("UNLINK", name)
    await pipeline.execute()
