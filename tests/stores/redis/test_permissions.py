"""A Redis user with the documented rights can do everything, and a missing right is named."""

import re
import time
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore
from gateway.stores.redis.permissions import COMMANDS
from tests.conformance.store import put, spent
from tests.conformance.test_archive import restore
from tests.stores.redis.test_kinds import every_lease_operation
from tests.stores.redis.test_leases import opened
from tests.stores.redis.test_outages import operations
from tests.support.redis import RedisServer
from tests.support.redis_kinds import command
from tests.support.states import gathered, history, state

DOCS = (Path(__file__).parents[3] / "docs" / "replicas.md").read_text(encoding="utf-8")
_, *RULES = re.findall(r"ACL SETUSER gateway (.*)", DOCS)[0].replace("PASSWORD", "pw").split()
PATTERN, CHANNEL = "~{gateway}:*", "&{gateway}:leases"


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


def with_user(url: str) -> str:
    return url.replace("//", "//gateway:pw@")


async def allow(client: Redis, *rules: str) -> None:
    """Give the user "gateway" the documented rights, then apply these rules."""
    await command(client, "ACL", "SETUSER", "gateway", "reset", "on", *RULES, *rules)


async def test_the_documented_rights_are_enough_and_all_of_them_are_checked(
    server: RedisServer, url: str, client: Redis
) -> None:
    await allow(client)
    place = parse_store_url(with_user(url))
    await restore(partial(RedisStore, place), state(history(300, now=time.time())))
    with capture_logs() as lines:
        async with RedisStore(place, wait_replicas=0) as store:
            await put(store, "b", spent(1))
            for operation in operations(store):
                await operation()
            assert await gathered(store.archive.export())
            settings = await store.settings()
            assert "unknown" not in {setting.value for setting in settings}
        async with opened(with_user(url)) as leases:
            await every_lease_operation(leases)
    assert lines == []
    used = {name.removeprefix("cmdstat_") for name in await client.info("commandstats")}
    keyed = {name for name in used if await touches_keys(client, name)}
    assert len(keyed) > 20
    assert keyed <= {name.lower() for name in COMMANDS}


async def touches_keys(client: Redis, name: str) -> bool:
    """Whether a command has its first key at a fixed place. A script has not."""
    about = await command(client, "COMMAND", "INFO", name)
    return any(each["first_key_pos"] for each in about.values())


async def refusal(url: str) -> str:
    with pytest.raises(UnusableStore) as refused:
        async with RedisStore(parse_store_url(with_user(url)), wait_replicas=1):
            pass
    return str(refused.value)


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["-hincrby", "-zadd"], "(+hincrby +zadd)"),
        (["-time"], "(+time)"),
        (["-wait"], "(+wait)"),
        (["resetkeys"], f"({PATTERN})"),
        (["resetkeys", "~{gateway}:meta"], f"({PATTERN})"),
        (["resetkeys", "~other:*", "-time"], f"({PATTERN} +time)"),
        (["-evalsha"], "'evalsha'"),
    ],
)
async def test_a_missing_right_is_refused_by_name(
    url: str, client: Redis, rules: list[str], missing: str
) -> None:
    await allow(client, *rules)
    why = await refusal(url)
    assert "lacks permissions that a gateway needs" in why
    assert missing in why
    assert await client.dbsize() == 0  # nothing was written halfway


@pytest.mark.parametrize("rules", [["-publish"], ["-subscribe"], ["resetchannels"]])
async def test_without_the_channel_there_is_a_warning(
    url: str, client: Redis, rules: list[str]
) -> None:
    await allow(client, *rules)
    with capture_logs() as lines:
        async with RedisStore(parse_store_url(with_user(url))):
            pass
    (line,) = lines
    assert line["missing"] == f"+publish +subscribe {CHANNEL}"


@pytest.mark.parametrize(
    ("rules", "hidden"),
    [
        (
            ["-config"],
            {"appendfsync", "min-replicas-to-write", "min-replicas-max-lag"},
        ),
        (["-info"], {"replicas"}),
        (
            ["-config", "-info"],
            {
                *("appendonly", "appendfsync", "maxmemory-policy", "replicas"),
                *("min-replicas-to-write", "min-replicas-max-lag"),
            },
        ),
    ],
)
async def test_settings_that_are_hidden_are_unknown(
    url: str, client: Redis, rules: list[str], hidden: set[str]
) -> None:
    await allow(client, *rules)
    async with RedisStore(parse_store_url(with_user(url))) as store:
        settings = await store.settings()
    assert {setting.name for setting in settings if setting.value == "unknown"} == hidden
