"""The composition: parts start and stop in order, and a failed start leaves none open."""

import asyncio
import socket
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.config.load import read_settings
from gateway.server.gateway import Gateway, new_id
from gateway.server.startup import StartError
from gateway.upstream.sandbox import Sandbox
from tests.support.redis import running_redis
from tests.support.rig import Rig, running_rig, settings_for

DOUBTS = ("the store has no teams", "no [cache] url")


def test_ids_are_unique() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {32}


def test_an_upstream_is_needed(tmp_path: Path) -> None:
    environ = {"GATEWAY_KEYS_PEPPER_FILE": str(tmp_path / "pepper")}
    settings, _ = read_settings("", environ)
    with pytest.raises(StartError, match="GATEWAY_UPSTREAM_BASE_URL"):
        Gateway(settings)


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
    async with running_redis(tmp_path / "redis") as redis:
        pepper = "0123456789abcdef"
        with capture_logs() as first:
            async with running_rig(tmp_path, STORE_URL=redis.url, KEYS_PEPPER=pepper) as rig:
                await rig.key()
        with capture_logs() as second:
            async with running_rig(
                tmp_path, STORE_URL=redis.url, CACHE_URL=redis.url, KEYS_PEPPER=pepper
            ):
                pass
    with capture_logs() as alone:
        async with running_rig(tmp_path):
            pass
    assert [line["event"] for line in alone if line["log_level"] == "warning"] == []
    for lines, doubts, cache in (
        (first, ["the store has no teams", "no [cache] url"], "memory"),
        (second, [], redis.url),
    ):
        warnings = [line["event"] for line in lines if line.get("source") == "gateway"]
        assert [text.split(":")[0] for text in warnings if text.split(":")[0] in DOUBTS] == doubts
        (started,) = [line for line in lines if line["event"] == "started"]
        assert (started["store"], started["cache"]) == (redis.url, cache)


async def test_two_gateways_share_a_store_and_its_keys(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as one, running_rig(tmp_path) as two:
        key = await one.key()
        assert (await two.generate(key)).status == 200
        assert (await one.generate(key)).status == 200
        assert one.sandbox.counts.calls == two.sandbox.counts.calls == 1
        assert (await two.usage()).images_bought == 2


async def test_the_ports_serve_different_routes(rig: Rig) -> None:
    """The public port shows neither health nor metrics; the admin port serves no images."""
    key = await rig.key()
    for path in ("/metrics", "/healthz", "/readyz", "/"):
        assert (await rig.get(path, key)).status == 404
    async with rig.session.post(
        f"{rig.gateway.admin_url}/v1/images/generations", json={"prompt": "apple"}
    ) as response:
        assert response.status == 404
    assert rig.sandbox.counts.asked == 0


async def test_nothing_listens_after_the_stop(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        url, admin_url = rig.url, rig.gateway.admin_url
        assert (await rig.get("/v1/models")).status == 401
    async with aiohttp.ClientSession() as session:
        for each in (url, admin_url):
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(each)
