import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.stores.errors import UnusableStore
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.opening import SCHEMA
from tests.conformance.store import images, put, spent
from tests.support.redis import RedisServer, free_port, running_redis
from tests.support.tcp_proxy import tcp_proxy

PASSWORD = "pass-that-nobody-may-see"


def url(server: RedisServer, who: str = "") -> str:
    return server.url.replace("//", f"//{who}@" if who else "//")


async def open_and_close(url: str) -> None:
    async with RedisStore(parse_store_url(url)):
        pass


async def refusal(url: str) -> str:
    """What opening says where it refuses."""
    with pytest.raises(UnusableStore) as refused:
        await open_and_close(url)
    text = str(refused.value)
    assert text.startswith(f"The store {parse_store_url(url).shown} cannot be used: ")
    assert "\n" not in text
    assert PASSWORD not in text
    return text


async def add_user(server: RedisServer, *rules: str) -> None:
    """A user "gateway" with the test's password, who may do what these rules say."""
    async with server.client() as client:
        await client.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "gateway", "reset", "on", f">{PASSWORD}", *rules
        )


@pytest.mark.parametrize(
    "policy", ["allkeys-lru", "allkeys-random", "volatile-lfu", "volatile-ttl"]
)
async def test_a_policy_that_evicts_budgets_is_refused(
    server: RedisServer, policy: str, client: Redis
) -> None:
    await client.config_set("maxmemory-policy", policy)
    assert f"its maxmemory-policy is {policy}" in await refusal(server.url)
    assert await client.dbsize() == 0


async def test_a_read_only_replica_is_refused(server: RedisServer, client: Redis) -> None:
    await client.replicaof("127.0.0.1", 1)
    assert "read-only replica" in await refusal(server.url)


async def test_a_newer_schema_is_refused_and_left_alone(server: RedisServer) -> None:
    await open_and_close(server.url)
    async with server.client() as client:
        await client.hset(names.META, "schema", str(SCHEMA + 1))
        before = await client.hgetall(names.META)
        said = await refusal(server.url)
        assert f"newer gateway (schema {SCHEMA + 1}, this one knows {SCHEMA})" in said
        assert await client.hgetall(names.META) == before


def say(version: bytes, other: bytes, reply: bytes) -> bytes:
    """A server's reply, as one of another version would give it."""
    return reply.replace(b"redis_version:" + version, b"redis_version:" + other.ljust(len(version)))


async def test_a_server_that_is_too_old_is_refused(server: RedisServer) -> None:
    async with server.client() as client:
        version = (await client.info("server"))["redis_version"].encode()
    async with tcp_proxy(server.port) as proxy:
        for old in (b"6.2.99", b"6.0.16"):
            proxy.rewrite = partial(say, version, old)
            said = await refusal(f"redis://127.0.0.1:{proxy.port}")
            assert f"Redis 7.0 or Valkey 7.2 is needed, or newer, and it is {old.decode()}" in said


@pytest.mark.parametrize("who", [f"gateway:{PASSWORD}x", f"nobody:{PASSWORD}", ""])
async def test_a_wrong_user_or_password_is_refused(server: RedisServer, who: str) -> None:
    await add_user(server, "+@all", "~*")
    async with server.client() as client:
        await client.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}y"
        )
    assert "password" in await refusal(url(server, who))
    await open_and_close(url(server, f"gateway:{PASSWORD}"))


@pytest.mark.parametrize("rules", [["+@all", "-evalsha", "~*"], ["+@all", "~other:*"]])
async def test_a_user_without_permissions_is_refused(server: RedisServer, rules: list[str]) -> None:
    await add_user(server, *rules)
    assert "lacks permissions that a gateway needs" in await refusal(
        url(server, f"gateway:{PASSWORD}")
    )


async def test_a_server_without_info_is_used_with_a_warning(
    server: RedisServer,
) -> None:
    await add_user(server, "+@all", "-info", "~{gateway}:*")
    with capture_logs() as lines:
        async with RedisStore(parse_store_url(url(server, f"gateway:{PASSWORD}"))) as store:
            await put(store, "a", spent(1))
    (line,) = (line for line in lines if line["log_level"] == "warning")
    assert "maxmemory-policy" in line["event"]


@pytest.mark.parametrize(("kept", "warnings"), [("yes", 0), ("no", 1)])
async def test_a_server_without_append_only_file_is_used_with_a_warning(
    tmp_path: Path, kept: str, warnings: int
) -> None:
    async with running_redis(tmp_path / "redis", appendonly=kept) as server:
        with capture_logs() as lines:
            await open_and_close(server.url)
    assert len([line for line in lines if "append-only" in line["event"]]) == warnings


@pytest.mark.parametrize(("often", "warnings"), [("always", 0), ("everysec", 1), ("no", 1)])
async def test_a_server_without_fsync_always_is_used_with_a_warning(
    tmp_path: Path, often: str, warnings: int
) -> None:
    async with running_redis(tmp_path / "redis", appendonly="yes", appendfsync=often) as server:
        with capture_logs() as lines:
            await open_and_close(server.url)
        found = [line for line in lines if "appendfsync" in line["event"]]
        assert len(found) == warnings
        assert {(line["source"], line["place"]) for line in found} <= {("store", server.url)}
        await add_user(server, "+@all", "-config", "~{gateway}:*")
        with capture_logs() as lines:
            await open_and_close(url(server, f"gateway:{PASSWORD}"))
        assert "does not show" in lines[0]["event"]


async def away(server: RedisServer) -> str:
    return f"redis://127.0.0.1:{free_port()}"


async def frozen(server: RedisServer) -> str:
    server.freeze()
    return server.url


@pytest.mark.parametrize("make", [away, frozen])
async def test_a_server_that_does_not_answer_is_an_outage(
    server: RedisServer, make: Callable[[RedisServer], Awaitable[str]]
) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await open_and_close(await make(server))


async def test_many_may_open_an_empty_server_at_once(server: RedisServer) -> None:
    stores = [RedisStore(parse_store_url(server.url)) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    await put(stores[0], "a", spent(3))
    assert [await images(store, "a") for store in stores] == [3] * 8
    for store in stores:
        await store.close()


async def test_two_databases_of_a_server_are_two_stores(server: RedisServer) -> None:
    async with (
        RedisStore(parse_store_url(server.url)) as store,
        RedisStore(parse_store_url(server.url.replace("/0", "/1"))) as other,
    ):
        await put(store, "a", spent(3))
        assert (await images(store, "a"), await images(other, "a")) == (3, 0)
