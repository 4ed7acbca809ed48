"""Ready means that a purchase could be written a moment ago: on real stores that refuse writes."""

import asyncio
import resource
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream.sandbox import Sandbox
from tests.support.process import running_process
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_kinds import command
from tests.support.rig import PROMPT, Client, Rig, running_rig
from tests.support.steps import AWAY, drawing, key_in, metric, until

SECONDS = 5.0
"""The promise: so soon it is not ready, and ready again."""

SLACK_SECONDS = 10.0
"""What a busy machine may take on top."""

Outage = Callable[[RedisServer], AbstractAsyncContextManager[None]]


async def becomes(client: Client, cause: str | None) -> None:
    """Wait until the gateway is ready, or is not for this cause."""
    seen: Any = None

    async def arrived() -> bool:
        nonlocal seen
        seen = (await client.admin("/readyz")).json
        seen.pop("store", None)  # the settings of the server: see test_store_watch
        if cause is None:
            return bool(seen["status"] == "ready")
        wanted = {
            "status": "not ready",
            "reason": "store_unavailable",
            "cause": f"The store cannot be used: {cause}.",
        }
        return bool(seen == wanted)

    try:
        await until(arrived, SECONDS + SLACK_SECONDS, 0.05)
    except TimeoutError:
        pytest.fail(f"expected {cause!r}, got {seen}")


# -- Redis --------------------------------------------------------------------------------------


@asynccontextmanager
async def full(redis: RedisServer) -> AsyncIterator[None]:
    async with redis.client() as client:
        await client.config_set("maxmemory", (await client.info("memory"))["used_memory"] // 2)
        yield
        await client.config_set("maxmemory", 0)


@asynccontextmanager
async def demoted(redis: RedisServer) -> AsyncIterator[None]:
    async with redis.client() as client:
        await command(client, "REPLICAOF", "127.0.0.1", "1")
        yield
        await command(client, "REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def without_replicas(redis: RedisServer) -> AsyncIterator[None]:
    async with redis.client() as client:
        await client.config_set("min-replicas-to-write", 1)
        yield
        await client.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def without_disk(redis: RedisServer) -> AsyncIterator[None]:
    shutil.rmtree(redis.folder)
    async with redis.client() as client:
        await client.config_set("save", "3600 1")
        await client.bgsave()

        async def has_failed() -> bool:
            return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await until(has_failed)
        yield
        await client.config_set("save", "")


@asynccontextmanager
async def frozen(redis: RedisServer) -> AsyncIterator[None]:
    redis.freeze()
    yield
    redis.thaw()


@pytest.mark.parametrize(
    ("outage", "cause"),
    [
        (full, "its memory is full"),
        (demoted, "it is a read-only replica"),
        pytest.param(
            without_replicas,
            "too few of its replicas are connected",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(without_disk, "it cannot write to its disk", marks=pytest.mark.exhaustive),
        (frozen, "it does not answer"),
    ],
)
async def test_a_redis_that_refuses_purchases(tmp_path: Path, outage: Outage, cause: str) -> None:
    async with (
        running_redis(tmp_path / "redis") as redis,
        running_rig(tmp_path, STORE_URL=redis.url, KEYS_PEPPER="p" * 32) as rig,
    ):
        key = await rig.key()
        assert (await rig.generate(key, PROMPT)).status == 200
        accounts = rig.gateway.store.accounts
        before = (await accounts.load(["team:team"])).accounts
        await becomes(rig, None)
        assert await metric(rig, "gateway_ready") == 1
        async with outage(redis):
            await becomes(rig, cause)
            assert await metric(rig, "gateway_ready") == 0
            assert (await rig.generate(key, None)).error == AWAY
            assert (await rig.generate(key, PROMPT)).headers["Cache-Status"] == "gateway; hit"
            assert (await rig.admin("/readyz?exclude=store")).json["status"] == "ready"
        await becomes(rig, None)
        after = (await accounts.load(["team:team"])).accounts
        assert [account.day for account, _ in after] == [account.day for account, _ in before]
        assert (await rig.generate(key, None)).status == 200


@pytest.mark.exhaustive
async def test_a_redis_that_is_loading(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis") as redis,
        redis.client() as client,
        running_rig(tmp_path, STORE_URL=redis.url, KEYS_PEPPER="p" * 32) as rig,
    ):
        await becomes(rig, None)
        # Redis answers between two of these, at intervals of bytes that it has read.
        await client.mset({f"other:{number}": secrets.token_bytes(1100) for number in range(300)})
        await client.save()
        await redis.kill()
        await becomes(rig, "it cannot be reached")
        redis.settings["key-load-delay"] = "10000"
        redis.settings["loading-process-events-interval-bytes"] = "1024"
        starting = asyncio.create_task(redis.start())
        await becomes(rig, "it is loading its data")
        await becomes(rig, None)
        await starting


# -- SQLite -------------------------------------------------------------------------------------


async def test_a_database_that_another_process_has_locked(rig: Rig, tmp_path: Path) -> None:
    key = await rig.key()
    with closing(sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        await becomes(rig, "another process has locked it")
        assert (await rig.generate(key, None)).error == AWAY
        other.execute("ROLLBACK")
    await becomes(rig, None)
    assert (await rig.generate(key, None)).status == 200


async def test_a_full_disk(tmp_path: Path) -> None:
    """The kernel limits the size of the gateway's files, where a full disk would refuse them."""
    async with (
        Sandbox(drawing()) as sandbox,
        running_process(tmp_path, sandbox.url) as gateway,
    ):
        key = await key_in(tmp_path)
        for _ in range(8):  # so that the log of the database is longer than that of the process
            assert (await gateway.generate(key)).status == 200
        wal = (tmp_path / "gateway.db-wal").stat().st_size
        _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (wal, hard))
        await becomes(gateway, "disk I/O error")
        assert (await gateway.generate(key)).error == AWAY
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (hard, hard))
        await becomes(gateway, None)
        assert (await gateway.generate(key)).status == 200

        def events() -> list[str]:
            lines = gateway.lines()
            return [line["event"] for line in lines if line.get("source") == "readiness"]

        await until(lambda: len(events()) == 2)
        assert [event.partition(":")[0] for event in events()] == ["not ready", "ready again"]
