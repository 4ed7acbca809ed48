"""The connection to a Redis that may be unavailable: limited in time and in attempts.

- A command waits at most a second for a connection and then takes at most a second (see
  `gateway.core.deadline`). Connections that died while idle are opened again within that second.
- After a failure no command is sent for a second; then one command tries (see `Breaker`).
- An outage is one log line when it begins and one when it ends. If Redis answers but refuses (it
  is full, or read-only), that is no outage; it is logged once a minute.

No log line contains a value, a key or a password.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import TypeVar

import structlog
from redis.asyncio import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from gateway.config.store_url import StoreUrl
from gateway.core.deadline import Deadline
from gateway.stores.redis.client import RedisClient, close_client, close_idle, open_client

log = structlog.get_logger(source="cache")

T = TypeVar("T")

SECONDS = 1.0
"""Time limit of a command, and before it of the wait for a connection."""

REST_SECONDS = 1.0
"""Pause after a failure."""

CONNECTIONS = 16

CLOCK_SECONDS = 30.0
"""How long a reading of Redis' clock is used."""

PROBE = "gateway:answer:probe"
"""A key that never exists."""

LOG_SECONDS = 60.0
"""Least time between two log lines about refusals."""


class Breaker:
    """Stops attempts for a while after a failure, so that an outage costs little.

    After a failure no attempt is allowed for `rest` seconds. Then one caller may try, while the
    others still go without. `clock` returns seconds and never runs backwards.
    """

    def __init__(self, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._rests_until: float | None = None

    @property
    def resting(self) -> bool:
        """Whether no attempt is allowed now."""
        return self._rests_until is not None and self._clock() < self._rests_until

    def allows(self) -> bool:
        """Whether the caller may try now; after a failure, one caller in `rest` seconds may."""
        if self.resting:
            return False
        if self._rests_until is not None:
            # The others wait for this attempt. If it reports nothing, another one may try later.
            self._rests_until = self._clock() + self._rest
        return True

    def failed(self) -> bool:
        """Record a failed attempt. True if an outage begins with it."""
        begins = self._rests_until is None
        self._rests_until = self._clock() + self._rest
        return begins

    def worked(self) -> bool:
        """Record a successful attempt. True if an outage ends with it."""
        ends = self._rests_until is not None
        self._rests_until = None
        return ends


class RedisUnavailable(Exception):
    """Redis did not answer in time or refused, or a failure was less than a second ago."""


class RedisConnection:
    """A pool of connections to the Redis at `place`. `wall` is this machine's clock."""

    def __init__(self, place: StoreUrl, wall: Callable[[], float]) -> None:
        self._place = place.shown
        self._wall = wall
        self._client = open_client(place, connections=CONNECTIONS, retries=1)
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._breaker = Breaker(REST_SECONDS)
        self._shift = 0.0
        self._shift_until = self._silent_until = float("-inf")

    @property
    def resting(self) -> bool:
        """Whether the pause after a failure lasts."""
        return self._breaker.resting

    async def open(self) -> None:
        """Send first commands, so that an outage or a missing permission is logged at the start."""
        with suppress(RedisUnavailable):
            await self.run(self.clock_shift)
            await self.run(_try_permissions)

    async def close(self) -> None:
        """Close all connections. An outage does not delay this."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                await close_client(self._client)

    async def run(
        self, work: Callable[[RedisClient], Awaitable[T]], seconds: float | None = SECONDS
    ) -> T:
        """The result of `work`, within at most `seconds`. Raises RedisUnavailable."""
        await self._take_slot()
        try:
            if not self._breaker.allows():
                raise RedisUnavailable
            async with nullcontext() if seconds is None else Deadline(seconds):
                answer = await work(self._client)
        # uvloop raises RuntimeError for a write to a connection that was lost a moment ago.
        except (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError) as error:
            # A cluster that lacks a node reports that in a response.
            if isinstance(error, ResponseError) and not isinstance(error, ClusterDownError):
                self._refused(_code(error))
            else:
                self._lost(error)
            if not isinstance(error, ResponseError) or isinstance(error, ReadOnlyError):
                await close_idle(self._client)  # another server may be the primary now
            raise RedisUnavailable from None
        finally:
            self._slots.release()
        if self._breaker.worked():
            log.info("the cache answers again", place=self._place)
        return answer

    async def clock_shift(self, client: RedisClient) -> float:
        """By how many seconds Redis' clock is ahead of this machine's.

        The clocks of a cluster's nodes are assumed to agree. Raises the client's exceptions.
        """
        if time.monotonic() >= self._shift_until:
            self._shift = await _time(client) - self._wall()
            self._shift_until = time.monotonic() + CLOCK_SECONDS
        return self._shift

    async def _take_slot(self) -> None:
        """Wait for a free connection. Raises RedisUnavailable."""
        if self._breaker.resting:
            raise RedisUnavailable
        try:
            async with Deadline(SECONDS):
                await self._slots.acquire()
        except TimeoutError:  # it answers, but too many commands run at the same time
            self._refused("busy")
            raise RedisUnavailable from None

    def _refused(self, cause: str) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + LOG_SECONDS
            log.warning("cache refuses", place=self._place, cause=cause)

    def _lost(self, error: Exception) -> None:
        self._shift_until = float("-inf")  # another server may take its place
        if not self._breaker.failed():
            return
        if isinstance(error, AuthenticationError):
            log.error("cache refuses the password", place=self._place)
        else:
            log.warning("the cache does not answer", place=self._place, cause=_cause(error))


async def _time(client: RedisClient) -> float:
    if isinstance(client, RedisCluster):
        answer = await client.time(target_nodes=RedisCluster.RANDOM)
    else:
        answer = await client.time()
    seconds, micros = answer
    return seconds + micros / 1e6


async def _try_permissions(client: RedisClient) -> None:
    """Read, delete and write a key that does not exist. Raises the client's exceptions."""
    await client.getrange(PROBE, 0, 0)
    await client.unlink(PROBE)
    try:
        await client.set(PROBE, b"", xx=True)
    except NoPermissionError:
        raise
    except ResponseError:  # it is full, or read-only: the first answer shows that
        pass


def _code(refusal: ResponseError) -> str:
    """The part of a refusal that is safe to log: its code, or the type of the exception."""
    if isinstance(refusal, NoPermissionError):  # it names the command, but no key
        return f"{refusal} (it needs the keys ~gateway:answer:*)"
    code = str(refusal).partition(" ")[0]
    return code if code.isupper() else type(refusal).__name__


def _cause(error: Exception) -> str:
    """The part of an error that is safe to log. Other errors may quote the command."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    known = isinstance(error, ConnectionError | OSError)
    return str(error) if known else type(error).__name__
