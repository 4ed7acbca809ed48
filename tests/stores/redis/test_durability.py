"""Which settings of a Redis may lose purchases."""

from pathlib import Path

import pytest

from gateway.config.store_url import parse_store_url
from gateway.stores.redis import RedisStore
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_kinds import running_replicas

SAFE = {"appendonly": "yes", "appendfsync": "always"}


async def risks(
    server: RedisServer, settings: dict[str, str], wait_replicas: int = 0
) -> dict[str, str]:
    """Set these settings, and return those that are risky, with the end of the advice."""
    async with (
        server.client() as client,
        RedisStore(parse_store_url(server.url), wait_replicas=wait_replicas) as store,
    ):
        for name, value in settings.items():
            await client.config_set(name, value)
        found = await store.settings()
    assert [setting.name for setting in found] == [
        *("appendonly", "appendfsync", "maxmemory-policy"),
        *("min-replicas-to-write", "min-replicas-max-lag", "replicas"),
    ]
    return {each.name: each.risk.rpartition(": ")[2] for each in found if each.risk}


async def test_a_single_server_needs_its_disk(server: RedisServer) -> None:
    assert await risks(server, {}) == {
        "appendonly": "set appendonly yes",
        "appendfsync": "set appendfsync always",
    }
    assert await risks(server, SAFE) == {}
    for often in ("everysec", "no"):
        assert await risks(server, {"appendfsync": often}) == {
            "appendfsync": "set appendfsync always"
        }
    async with RedisStore(parse_store_url(server.url)) as store, server.client() as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")  # after the start
        (policy,) = [each for each in await store.settings() if each.name == "maxmemory-policy"]
        assert (policy.value, policy.risk is not None) == ("allkeys-lru", True)


@pytest.mark.parametrize(
    ("wait_replicas", "settings", "expected"),
    [
        (0, {}, {"min-replicas-to-write": "set min-replicas-to-write 1, for all replicas"}),
        (0, {"min-replicas-to-write": "1"}, {"min-replicas-max-lag": "set min-replicas-max-lag 1"}),
        (0, {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}, {}),
        (1, {}, {}),
        (1, {"min-replicas-to-write": "1"}, {}),
        (2, {}, {"replicas": "2 replicas are required"}),
    ],
)
async def test_replicas_need_settings_against_a_failover(
    tmp_path: Path, wait_replicas: int, settings: dict[str, str], expected: dict[str, str]
) -> None:
    async with (
        running_redis(tmp_path / "primary", repl_diskless_sync_delay="0", **SAFE) as primary,
        running_replicas(tmp_path, primary, 1),
    ):
        assert await risks(primary, settings, wait_replicas) == expected
