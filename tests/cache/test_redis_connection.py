"""An unavailable Redis: its cost, its log lines, and the recovery."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.cache.redis_connection import (
    CONNECTIONS,
    Breaker,
    RedisConnection,
    RedisUnavailable,
)
from gateway.config.store_url import parse_store_url
from gateway.stores.redis.client import RedisClient
from tests.conformance.store import Wall
from tests.support.answers import answer, key
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_cache import CacheReplica, found_in
from tests.support.redis_kinds import command, running_sentinel
from tests.support.steps import until

DOCS = (Path(__file__).parents[2] / "docs" / "replicas.md").read_text(encoding="utf-8")

AWAY = ("warning", "the cache does not answer")
REFUSES = ("warning", "cache refuses")


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(parse_store_url(url), time.time)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def connection(redis_server: RedisServer) -> AsyncIterator[RedisConnection]:
    async with connection_to(redis_server.url) as running:
        yield running


async def ping(client: RedisClient) -> Any:
    return await client.execute_command("PING")


async def answers(connection: RedisConnection) -> bool:
    try:
        return bool(await connection.run(ping))
    except RedisUnavailable:
        return False


async def answers_each(connection: RedisConnection, number: int) -> list[bool]:
    """The results of this many commands at the same time."""
    return await asyncio.gather(*(answers(connection) for _ in range(number)))


def logged(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


async def test_a_frozen_redis_costs_a_second_once_in_a_while(
    redis_server: RedisServer, connection: RedisConnection
) -> None:
    redis_server.freeze()
    started = time.monotonic()
    with capture_logs() as lines:
        assert not any(await answers_each(connection, 5 * CONNECTIONS))
        assert not any([await answers(connection) for _ in range(50)])
    assert time.monotonic() - started < 10  # and not a second for each of them
    # On a busy machine the wait for a connection ends in the same turn as the commands: then the
    # connection is logged as busy, too.
    assert [line for line in logged(lines) if line != ("warning", "cache refuses")] == [AWAY]
    redis_server.thaw()
    with capture_logs() as lines:
        await until(lambda: answers(connection))
    assert logged(lines) == [("info", "the cache answers again")]


async def test_a_killed_redis_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as server, connection_to(server.url) as connection:
        assert await answers(connection)
        await server.kill()
        with capture_logs() as lines:
            assert not await answers(connection)
        assert logged(lines) == [AWAY]
        await server.start()
        await until(lambda: answers(connection))


async def test_connections_that_died_while_idle_fail_no_command(
    redis_server: RedisServer, connection: RedisConnection
) -> None:
    await answers_each(connection, CONNECTIONS)
    async with redis_server.client() as client:
        for _ in range(3):
            await client.client_kill_filter(_type="normal", skipme=True)
            with capture_logs() as lines:
                assert all(await answers_each(connection, CONNECTIONS))
            assert lines == []


async def test_a_wrong_password_is_logged_once_and_never_shown(tmp_path: Path) -> None:
    async with running_redis(tmp_path) as server:
        async with server.client() as client:
            await client.config_set("requirepass", "right")
        for credentials in ("", ":canary-password@", "canary:canary-password@"):
            url = server.url.replace("//", f"//{credentials}")
            with capture_logs() as lines:
                async with connection_to(url) as connection:
                    assert not await answers(connection)
            assert logged(lines) == [("error", "cache refuses the password")]
            assert "canary" not in str(lines)


async def test_a_refusal_is_no_outage_and_logged_once(connection: RedisConnection) -> None:
    async def unknown(client: RedisClient) -> Any:
        return await client.execute_command("NONSENSE", "canary")

    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(RedisUnavailable):
                await connection.run(unknown)
    assert logged(lines) == [REFUSES]
    assert "canary" not in str(lines)
    assert await answers(connection)


async def test_a_command_waits_for_a_free_connection_for_a_second(
    connection: RedisConnection,
) -> None:
    begun, go_on = 0, asyncio.Event()

    async def held(client: RedisClient) -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()

    held_ones = [asyncio.create_task(connection.run(held, None)) for _ in range(CONNECTIONS)]
    await until(lambda: begun == CONNECTIONS)
    with capture_logs() as lines:
        assert not any(await answers_each(connection, 50))
    assert logged(lines) == [REFUSES]
    waiting = asyncio.create_task(answers(connection))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    go_on.set()
    await asyncio.gather(*held_ones)
    assert await waiting


async def test_a_defect_is_not_taken_for_an_outage(connection: RedisConnection) -> None:
    async def broken(client: RedisClient) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await connection.run(broken)
    assert await answers(connection)


# -- the breaker --------------------------------------------------------------------------------


def test_the_breaker_allows_no_attempt_for_a_while_after_a_failure_and_then_one_at_a_time() -> None:
    clock = Wall(0.0)
    breaker = Breaker(1.0, clock)
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    breaker.failed()
    for clock.now in (0.0, 0.5, 0.99):
        assert breaker.resting
        assert not breaker.allows()
    for clock.now in (1.0, 2.0):  # the first attempt has no result: it does not block the second
        assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    breaker.worked()
    assert all(breaker.allows() for _ in range(5))
    assert not breaker.resting


def test_an_outage_begins_and_ends_once() -> None:
    breaker = Breaker(1.0, Wall(0.0))
    assert not breaker.worked()
    assert [breaker.failed() for _ in range(3)] == [True, False, False]
    assert [breaker.worked() for _ in range(3)] == [True, False, False]
    assert breaker.failed()


async def test_the_documented_rights_are_enough_and_a_missing_one_is_named_at_the_start(
    tmp_path: Path,
) -> None:
    (rules,) = re.findall(r"ACL SETUSER gateway-cache on >PASSWORD (.*)", DOCS)
    async with running_redis(tmp_path / "redis") as server, server.client() as client:
        for changed, cause in (
            ("", None),
            ("-getrange", "'getrange'"),
            ("-set", "'set'"),
            ("-unlink", "'unlink'"),
            ("-time", "'time'"),
            ("resetkeys", "~gateway:answer:*"),
        ):
            rights = ("reset", "on", ">pw", *rules.split(), *changed.split())
            await command(client, "ACL", "SETUSER", "me", *rights)
            place = f"redis://me:pw@127.0.0.1:{server.port}"
            with capture_logs() as lines:
                async with CacheReplica(place) as replica:
                    if cause is None:
                        assert await replica.redis.set(key(1), answer(), 60)
                        assert await found_in(replica.redis, key(1)) is not None
                        assert await replica.redis.clear()
            causes = [line["cause"] for line in lines if line["event"] == "cache refuses"]
            assert len(causes) == (cause is not None), lines
            assert all(str(cause) in each for each in causes)


@pytest.mark.parametrize("how", ["demoted", "hangs"])
async def test_a_primary_that_moved_is_found_again_by_all_connections(
    tmp_path: Path, how: str
) -> None:
    async with (
        running_sentinel(tmp_path) as servers,
        running_redis(tmp_path / "new") as new,
        connection_to(servers.url) as connection,
    ):

        async def writes() -> bool:
            async def write(client: RedisClient) -> None:
                await asyncio.sleep(0.05)  # so that each one takes a connection of its own
                await client.set("key", b"1")

            with suppress(RedisUnavailable):
                await connection.run(write)
                return True
            return False

        assert await asyncio.gather(*(writes() for _ in range(CONNECTIONS))) == [True] * CONNECTIONS
        await servers.sentinels[0].watch(new)
        if how == "demoted":
            async with servers.primary.client() as client:
                await client.replicaof("127.0.0.1", new.port)
        else:
            servers.primary.freeze()
        assert not await writes()
        await until(writes, every=0.2)
        assert await asyncio.gather(*(writes() for _ in range(CONNECTIONS))) == [True] * CONNECTIONS
