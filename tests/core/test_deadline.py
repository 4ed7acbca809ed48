"""A deadline does not count the time in which the process stood still."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis.asyncio import Redis

from gateway.cache import redis_connection
from gateway.cache.redis_connection import RedisConnection, RedisUnavailable
from gateway.config.store_url import parse_store_url
from gateway.core.deadline import Deadline
from gateway.stores.redis import RedisStore
from gateway.stores.redis.client import RedisClient
from gateway.stores.redis.link import PATIENCE_SECONDS
from tests.support.redis import running_redis

NewLoop = Callable[[], asyncio.AbstractEventLoop] | None

if find_spec("uvloop"):
    from gateway.server.uvloop import Loop

    LOOPS: list[NewLoop] = [None, Loop]
else:
    LOOPS = [None]

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Runs a coroutine, once on asyncio's loop and once on uvloop's if it is installed."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


def stand_still_for(seconds: float) -> None:
    """Block the loop from its next turn on, as a paused machine does."""
    asyncio.get_running_loop().call_later(0.001, time.sleep, seconds)


def test_an_answer_during_a_standstill_is_used(run: Run[str]) -> None:
    async def ask() -> str:
        async with Deadline(0.3):
            stand_still_for(0.9)
            await asyncio.to_thread(time.sleep, 0.1)
            return "answer"

    assert run(ask()) == "answer"


def test_the_deadline_ends(run: Run[float]) -> None:
    async def ask() -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with Deadline(0.2):
                await asyncio.Event().wait()
        return time.monotonic() - started

    assert run(ask()) >= 0.19


async def test_work_that_ends_in_time_is_not_cancelled() -> None:
    async with Deadline(0.05):
        pass
    with pytest.raises(ZeroDivisionError):
        async with Deadline(0.05):
            raise ZeroDivisionError
    await asyncio.sleep(0.1)


async def test_a_cancellation_from_outside_is_passed_on() -> None:
    async def ask() -> None:
        async with Deadline(5):
            await asyncio.Event().wait()

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


def test_a_standstill_does_not_suspend_the_cache(tmp_path: Path, run: Run[bool]) -> None:
    """Otherwise its images would be bought again, for at least a second."""

    async def slow(client: RedisClient) -> object:
        stand_still_for(redis_connection.SECONDS + 0.3)
        return await client.execute_command("BLPOP", "nothing", "0.2")

    async def ask() -> bool:
        async with running_redis(tmp_path / "redis") as server:
            connection = RedisConnection(parse_store_url(server.url), time.time)
            await connection.open()
            try:
                await connection.run(slow)
                return connection.resting
            finally:
                await connection.close()

    assert run(ask()) is False


@pytest.mark.skipif(len(LOOPS) == 1, reason="uvloop is not installed")
def test_a_write_to_a_connection_that_was_just_lost_is_an_outage(tmp_path: Path) -> None:
    """uvloop raises RuntimeError there.

    asyncio's own loop raises ConnectionError, or from Python 3.12 on AttributeError by a fault of
    its `writelines`.
    """

    async def write(client: RedisClient) -> None:
        assert isinstance(client, Redis)
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        await connection.send_command("GET", "nothing")

    async def ask() -> None:
        async with running_redis(tmp_path / "redis") as server:
            connection = RedisConnection(parse_store_url(server.url), time.time)
            await connection.open()
            try:
                with pytest.raises(RedisUnavailable):
                    await connection.run(write)
            finally:
                await connection.close()

    with asyncio.Runner(loop_factory=LOOPS[-1]) as runner:
        runner.run(ask())


def test_a_standstill_refuses_no_purchase(tmp_path: Path, run: Run[int]) -> None:
    async def ask() -> int:
        async with running_redis(tmp_path / "redis") as server:
            store = RedisStore(parse_store_url(server.url))
            await store.open()
            try:
                stand_still_for(PATIENCE_SECONDS + 0.3)
                return len(await asyncio.gather(*(store.accounts.load(["a"]) for _ in range(50))))
            finally:
                await store.close()

    assert run(ask()) == 50
