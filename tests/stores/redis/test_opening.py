import asyncio
from functools import partial

import pytest
from redis.asyncio import Redis

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.opening import SCHEMA
from tests.support.redis import RedisServer, free_port
from tests.support.redis_kinds import command
from tests.support.tcp_proxy import tcp_proxy

PASSWORD = "pass-that-nobody-may-see"


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


def url_of(url: str, who: str = f"gateway:{PASSWORD}") -> str:
    """Return the URL with this user and password."""
    return url.replace("//", f"//{who}@" if who else "//")


async def open_and_close(url: str) -> None:
    async with RedisStore(parse_store_url(url)):
        pass


async def refusal(url: str) -> str:
    """Return the error of a store that refuses to open."""
    with pytest.raises(UnusableStore) as refused:
        await open_and_close(url)
    text = str(refused.value)
    assert text.startswith(f"The store {parse_store_url(url).shown} cannot be used: ")
    assert "\n" not in text
    assert PASSWORD not in text
    return text


async def add_user(client: Redis, *rules: str) -> None:
    """Add a user "gateway" with the test's password and these rights."""
    await command(client, "ACL", "SETUSER", "gateway", "reset", "on", f">{PASSWORD}", *rules)


async def test_a_policy_that_evicts_budgets_is_refused(url: str, client: Redis) -> None:
    for policy in ("allkeys-lru", "allkeys-random", "volatile-lfu", "volatile-ttl"):
        await client.config_set("maxmemory-policy", policy)
        assert f"its maxmemory-policy is {policy}" in await refusal(url)
    assert await client.dbsize() == 0


async def test_a_read_only_replica_is_refused(url: str, client: Redis) -> None:
    await client.replicaof("127.0.0.1", 1)
    assert "read-only replica" in await refusal(url)


async def test_a_newer_schema_is_refused_and_left_alone(url: str, client: Redis) -> None:
    await open_and_close(url)
    await client.hset(names.META, "schema", str(SCHEMA + 1))
    before = await client.hgetall(names.META)
    why = await refusal(url)
    assert f"newer gateway (schema {SCHEMA + 1}, this one knows {SCHEMA})" in why
    assert await client.hgetall(names.META) == before


def with_version(version: bytes, other: bytes, reply: bytes) -> bytes:
    """A server's reply, as one of another version would give it."""
    return reply.replace(b"redis_version:" + version, b"redis_version:" + other.ljust(len(version)))


async def test_a_server_that_is_too_old_is_refused(server: RedisServer, client: Redis) -> None:
    version = (await client.info("server"))["redis_version"].encode()
    async with tcp_proxy(server.port) as proxy:
        for old in (b"6.2.99", b"6.0.16"):
            proxy.rewrite = partial(with_version, version, old)
            why = await refusal(f"redis://127.0.0.1:{proxy.port}")
            assert f"Redis 7.0 or Valkey 7.2 is needed, or newer, and it is {old.decode()}" in why


async def test_a_wrong_user_or_password_is_refused(url: str, client: Redis) -> None:
    await add_user(client, "+@all", "~*")
    await command(client, "ACL", "SETUSER", "default", "resetpass", f">{PASSWORD}y")
    for who in (f"gateway:{PASSWORD}x", f"nobody:{PASSWORD}", ""):
        assert "password" in await refusal(url_of(url, who))
    await open_and_close(url_of(url))


async def test_a_server_that_does_not_answer_is_an_outage(server: RedisServer) -> None:
    server.freeze()
    for place in (server.url, f"redis://127.0.0.1:{free_port()}"):
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await open_and_close(place)
