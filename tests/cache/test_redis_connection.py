"""An unavailable Redis: its cost, its log lines, and the recovery."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.cache.redis_connection import CONNECTIONS, RedisConnection, RedisUnavailable
from gateway.config.store_url import parse_store_url
from gateway.stores.redis.client import RedisClient
from tests.support.money import until
from tests.support.redis import RedisServer, free_port, running_redis


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as running:
        yield running


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(parse_store_url(url), time.time)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


async def ping(client: RedisClient) -> Any:
    return await client.execute_command("PING")


async def answers(connection: RedisConnection) -> bool:
    try:
        return bool(await connection.run(ping))
    except RedisUnavailable:
        return False


def logged(lines: list[Any]) -> list[tuple[str, str]]:
    return [(line["log_level"], line["event"]) for line in lines]


async def test_a_frozen_redis_costs_a_second_once_in_a_while(server: RedisServer) -> None:
    async with connection_to(server.url) as connection:
        server.freeze()
        started = time.monotonic()
        with capture_logs() as lines:
            assert not any(
                await asyncio.gather(*(answers(connection) for _ in range(5 * CONNECTIONS)))
            )
            assert not any([await answers(connection) for _ in range(50)])
        assert time.monotonic() - started < 10  # and not a second for each of them
        assert logged(lines) == [("warning", "cache away")]
        server.thaw()
        with capture_logs() as lines:
            await until(lambda: answers(connection))
        assert logged(lines) == [("info", "cache back")]


async def test_a_killed_redis_is_found_again_when_it_is_back(server: RedisServer) -> None:
    async with connection_to(server.url) as connection:
        assert await answers(connection)
        await server.kill()
        with capture_logs() as lines:
            assert not await answers(connection)
        assert logged(lines) == [("warning", "cache away")]
        await server.start()
        await until(lambda: answers(connection))


async def test_connections_that_died_while_idle_fail_nothing(server: RedisServer) -> None:
    async with connection_to(server.url) as connection:
        await asyncio.gather(*(answers(connection) for _ in range(CONNECTIONS)))
        async with server.client() as client:
            for _ in range(3):
                await client.client_kill_filter(_type="normal", skipme=True)
                with capture_logs() as lines:
                    assert all(
                        await asyncio.gather(*(answers(connection) for _ in range(CONNECTIONS)))
                    )
                assert lines == []


async def test_a_missing_redis_is_no_failure() -> None:
    with capture_logs() as lines:
        async with connection_to(f"redis://127.0.0.1:{free_port()}/0") as connection:
            assert not await answers(connection)
    assert logged(lines) == [("warning", "cache away")]


@pytest.mark.parametrize("way_in", ["", ":canary-password@", "canary:canary-password@"])
async def test_a_wrong_password_is_logged_once_and_never_shown(
    server: RedisServer, way_in: str
) -> None:
    async with server.client() as client:
        await client.config_set("requirepass", "right")
    with capture_logs() as lines:
        async with connection_to(server.url.replace("//", f"//{way_in}")) as connection:
            assert not await answers(connection)
    assert logged(lines) == [("error", "cache refuses the password")]
    assert "canary" not in str(lines)


async def test_a_refusal_is_no_outage_and_logged_once(server: RedisServer) -> None:
    async def unknown(client: RedisClient) -> Any:
        return await client.execute_command("NONSENSE", "canary")

    async with connection_to(server.url) as connection:
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(RedisUnavailable):
                    await connection.run(unknown)
        assert logged(lines) == [("warning", "cache refuses")]
        assert "canary" not in str(lines)
        assert await answers(connection)


async def test_commands_above_the_number_of_connections_wait(server: RedisServer) -> None:
    begun, go_on = 0, asyncio.Event()

    async def held(client: RedisClient) -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()

    async with connection_to(server.url) as connection:
        asking = [asyncio.create_task(connection.run(held, None)) for _ in range(2 * CONNECTIONS)]
        await until(lambda: begun >= CONNECTIONS)
        await asyncio.sleep(0.05)
        assert begun == CONNECTIONS
        go_on.set()
        await asyncio.gather(*asking)


async def test_a_wait_for_a_connection_is_short_and_no_outage(server: RedisServer) -> None:
    go_on = asyncio.Event()

    async def held(client: RedisClient) -> None:
        await go_on.wait()

    async with connection_to(server.url) as connection:
        asking = [asyncio.create_task(connection.run(held, None)) for _ in range(CONNECTIONS)]
        with capture_logs() as lines:
            assert not any(await asyncio.gather(*(answers(connection) for _ in range(50))))
        assert logged(lines) == [("warning", "cache refuses")]
        go_on.set()
        await asyncio.gather(*asking)
        assert await answers(connection)


async def test_a_defect_is_not_taken_for_an_outage(server: RedisServer) -> None:
    async def broken(client: RedisClient) -> None:
        raise ZeroDivisionError

    async with connection_to(server.url) as connection:
        with pytest.raises(ZeroDivisionError):
            await connection.run(broken)
        assert await answers(connection)


async def test_the_clock_is_that_of_redis(server: RedisServer) -> None:
    connection = RedisConnection(parse_store_url(server.url), lambda: 1_000.0)
    shift = await connection.run(connection.clock_shift)
    assert abs(1_000.0 + shift - time.time()) < 10
    await connection.close()
