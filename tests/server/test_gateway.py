"""The composition: parts start and stop in order, and a failed start leaves none open."""

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.server.gateway import Gateway, new_id
from gateway.server.startup import StartError
from gateway.upstream.sandbox import Sandbox
from tests.support.redis import running_redis
from tests.support.rig import running_rig, settings_for

DOUBTS = [
    "the store has no teams: it is new, or it lost its data",
    "no [cache] url: each replica caches answers in its own memory only",
]


def test_ids_are_unique() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {32}


async def test_a_failed_start_closes_everything(tmp_path: Path) -> None:
    """The store is open already; a second start finds it free."""
    before = set(asyncio.all_tasks())
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        upstream = Sandbox()
        upstream.url = "http://127.0.0.1:9"
        settings = settings_for(tmp_path, upstream, SERVER_PORT=str(port))
        for _ in range(2):
            with pytest.raises(StartError, match=f"Port {port} on 127.0.0.1 is in use"):
                await Gateway(settings).start()
    assert set(asyncio.all_tasks()) == before


async def test_a_start_logs_its_store_and_cache(tmp_path: Path) -> None:
    pepper = "0123456789abcdef"
    async with running_redis(tmp_path / "redis") as redis:
        for cache, shown, warnings in ((None, "memory", DOUBTS), (redis.url, redis.url, [])):
            with capture_logs() as lines:
                async with running_rig(
                    tmp_path, STORE_URL=redis.url, CACHE_URL=cache or "", KEYS_PEPPER=pepper
                ) as rig:
                    await rig.key()
            texts = [line["event"] for line in lines if line.get("source") == "gateway"]
            assert [text for text in texts if text in DOUBTS] == warnings
            (started,) = [line for line in lines if line["event"] == "started"]
            assert (started["store"], started["cache"]) == (redis.url, shown)
    with capture_logs() as lines:
        async with running_rig(tmp_path):
            pass
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == []


async def test_nothing_listens_after_the_stop(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        url, admin_url = rig.url, rig.gateway.admin_url
        assert (await rig.get("/v1/models")).status == 401
    async with aiohttp.ClientSession() as session:
        for each in (url, admin_url):
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(each)
