"""Asking a Redis that may be away: bounded in time, not again and again, and said once.

- A command waits at most a second for a connection and then has a second (see
  `gateway.core.deadline`). Connections that died while they were idle are made anew within it.
- After a failure nobody asks for a second; then one does (see `gateway.cache.breaker`).
- An outage is a line in the log when it begins and one when it ends. What Redis answers but
  refuses (it is full, or read-only) is no outage; it is told once a minute.

No line has a value, a key or a password in it.
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
    RedisClusterException,
    RedisError,
    ResponseError,
)

from gateway.cache.breaker import Breaker
from gateway.config.store_url import StoreUrl
from gateway.core.deadline import Patience
from gateway.stores.redis.client import RedisClient, close_client, open_client

log = structlog.get_logger(source="cache")

T = TypeVar("T")

SECONDS = 1.0
"""What a command may take, and before it the wait for a connection."""

REST_SECONDS = 1.0
"""How long Redis is left alone after a failure."""

CONNECTIONS = 16

CLOCK_SECONDS = 30.0
"""How long Redis' clock is known before it is asked again."""

TOLD_SECONDS = 60.0
"""Least time between two lines about refusals."""


class Away(Exception):
    """Redis did not answer in time, was not asked because it just had not, or refused."""


class RedisLine:
    """The way to the Redis at `place`. `wall` is this machine's clock."""

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
        """Whether it failed a moment ago, and nobody asks just now."""
        return self._breaker.resting

    async def open(self) -> None:
        """Ask for the first time, so that the log says at the start if Redis is away."""
        with suppress(Away):
            await self.ask(self.shift)

    async def close(self) -> None:
        """Close all connections. A Redis that is away does not hold this up."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(SECONDS):
                await close_client(self._client)

    async def ask(
        self, work: Callable[[RedisClient], Awaitable[T]], seconds: float | None = SECONDS
    ) -> T:
        """What comes of `work` with the client, in at most so many seconds. Raises Away."""
        await self._take_slot()
        try:
            if not self._breaker.allows():
                raise Away
            async with nullcontext() if seconds is None else Patience(seconds):
                answer = await work(self._client)
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            # A cluster that misses a node says so in an answer.
            if isinstance(error, ResponseError) and not isinstance(error, ClusterDownError):
                self._refused(_code(error))
            else:
                self._lost(error)
            raise Away from None
        finally:
            self._slots.release()
        if self._breaker.worked():
            log.info("cache back", place=self._place)
        return answer

    async def shift(self, client: RedisClient) -> float:
        """By how many seconds Redis' clock is ahead of this machine's.

        The clocks of a cluster's nodes are taken to agree. Raises what the client raises.
        """
        if time.monotonic() >= self._shift_until:
            self._shift = await _time(client) - self._wall()
            self._shift_until = time.monotonic() + CLOCK_SECONDS
        return self._shift

    async def _take_slot(self) -> None:
        """Wait for a connection to be free. Raises Away."""
        if self._breaker.resting:
            raise Away
        try:
            async with Patience(SECONDS):
                await self._slots.acquire()
        except TimeoutError:  # it answers, but too much is asked of it at once
            self._refused("busy")
            raise Away from None

    def _refused(self, cause: str) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + TOLD_SECONDS
            log.warning("cache refuses", place=self._place, cause=cause)

    def _lost(self, error: Exception) -> None:
        self._shift_until = float("-inf")  # it may come back as another server
        if not self._breaker.failed():
            return
        if isinstance(error, AuthenticationError):
            log.error("cache refuses the password", place=self._place)
        else:
            log.warning("cache away", place=self._place, cause=_cause(error))


async def _time(client: RedisClient) -> float:
    if isinstance(client, RedisCluster):
        answer = await client.time(target_nodes=RedisCluster.RANDOM)
    else:
        answer = await client.time()
    seconds, micros = answer
    return seconds + micros / 1e6


def _code(refusal: ResponseError) -> str:
    """What may be said of a refusal: its code, or the type that the client made of a known one."""
    code = str(refusal).partition(" ")[0]
    return code if code.isupper() else type(refusal).__name__


def _cause(error: Exception) -> str:
    """What may be said of an error. Others may quote what was sent."""
    if isinstance(error, TimeoutError):
        return f"no answer within {SECONDS:g} s"
    known = isinstance(error, ConnectionError | OSError)
    return str(error) if known else type(error).__name__
