"""A gateway in this process: its parts start in order and stop in order, and nothing stays open."""

import asyncio
import socket
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.server.gateway import LINGER_SECONDS, Gateway
from gateway.server.ids import new_id
from gateway.server.startup import StartError
from gateway.upstream.sandbox import Sandbox
from tests.support.raw import refuses, request_bytes, wire
from tests.support.redis import running_redis
from tests.support.rig import FLAT, running_rig, settings_for
from tests.support.steps import books_in, drawing, status, until, until_asked

DOUBTS = [
    "the store has no teams: it is new, or it lost its data",
    "no [cache] url: each replica caches answers in its own memory only",
]


def test_ids_are_unique() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(id) for id in ids} == {32}


# -- starting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("SERVER_PORT", "{taken}", r"Port \d+ on 127\.0\.0\.1 is in use: "),
        ("SERVER_ADMIN_PORT", "{taken}", r"Port \d+ on 127\.0\.0\.1 is in use: "),
        ("SERVER_HOST", "203.0.113.1", r"Cannot listen on 203\.0\.113\.1 port "),
        ("SERVER_HOST", "nowhere.invalid", r"Cannot listen on nowhere\.invalid port "),
    ],
)
async def test_a_failed_start_closes_everything(
    tmp_path: Path, option: str, value: str, reason: str
) -> None:
    """The store is open already; a second start finds it free."""
    before = set(asyncio.all_tasks())
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        upstream = Sandbox()
        upstream.url = "http://127.0.0.1:9"
        variables = {option: value.format(taken=taken.getsockname()[1])}
        settings = settings_for(tmp_path, upstream, **variables)
        for _ in range(2):
            with pytest.raises(StartError, match=reason) as failure:
                await Gateway(settings).start()
            assert "Success" not in str(failure.value)
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


# -- stopping -----------------------------------------------------------------------------------


async def test_nothing_listens_after_the_stop(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        assert (await rig.get("/v1/models")).status == 401
    assert await refuses(rig.url)
    assert await refuses(rig.admin_url)


async def test_a_drain_delivers_purchases_in_flight_and_buys_nothing_new(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        await rig.generate(key)
        rig.sandbox.settings.latency = LINGER_SECONDS + 4
        waiting = [asyncio.create_task(rig.generate(key, f"p{i}")) for i in range(5)]
        left = asyncio.create_task(rig.generate(key, "client disconnects"))
        await until_asked(rig, 7)
        left.cancel()
        stopping = asyncio.create_task(rig.gateway.stop())
        await until(lambda: rig.gateway.proxy.draining)
        assert (await rig.admin("/readyz")).json["reason"] == "draining"
        new = await rig.generate(key, "new")
        assert new.error == (503, "server_error", "draining")
        assert "x-should-retry" not in new.headers
        assert status(await rig.generate(key)) == "gateway; hit"
        joined = asyncio.create_task(rig.generate(key, "p0"))
        # In the end it refuses new connections, and closes idle ones.
        await until(lambda: refuses(rig.url), 30)
        assert not any(each.done() for each in waiting)
        with pytest.raises(aiohttp.ClientConnectorError):
            await rig.get("/v1/models")
        assert (await rig.admin("/readyz")).json["reason"] == "draining"
        assert [(await each).status for each in waiting] == [200] * 5
        assert status(await joined) == "gateway; fwd=miss; collapsed"
        await stopping
    async with books_in(tmp_path) as books:
        await books.assert_books(7)


async def test_a_notice_comes_before_the_drain_and_everything_is_served_meanwhile(
    tmp_path: Path,
) -> None:
    environ = {"SERVER_DRAIN_NOTICE_SECONDS": "1"}
    async with running_rig(tmp_path, FLAT, drawing(latency=3), **environ) as rig:
        key = await rig.key()
        early = asyncio.create_task(rig.generate(key, None))
        await until_asked(rig, 1)
        notice = asyncio.create_task(rig.gateway.give_notice())
        await asyncio.sleep(0.1)
        ready = await rig.admin("/readyz?exclude=store")
        assert (ready.status, ready.json["reason"]) == (503, "draining")
        late = []
        while not await refuses(rig.url):
            assert not notice.done()
            models = await rig.models(key)
            assert (models.status, models.headers["Connection"]) == (200, "close")
            late.append(asyncio.create_task(rig.generate(key, None)))
            await asyncio.sleep(0.1)
        assert len(late) > 2
        await notice
        await rig.gateway.stop()
        got = [await call for call in (early, *late)]
        assert [each.status for each in got] == [200] * len(got)
        assert {each.headers["Connection"] for each in got} == {"close"}
        assert rig.sandbox.counts.asked == len(got)


async def test_a_body_that_is_still_arriving_at_the_stop_is_refused(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        key = await rig.key()
        async with wire(rig.url) as connection:
            expecting = "Expect: 100-continue\r\n"
            await connection.send(request_bytes(key, headers=expecting, body=b"{", length=20))
            assert (await connection.answer(head_only=True)).status == 100
            stopping = asyncio.create_task(rig.gateway.stop())
            answer = await connection.answer()
            await stopping
    assert answer.error == (503, "draining")
    assert answer.headers["retry-after"]


async def test_a_purchase_that_outlasts_the_drain_is_charged_as_unknown(tmp_path: Path) -> None:
    slow = drawing(latency=30)
    async with running_rig(tmp_path, FLAT, slow, SERVER_DRAIN_SECONDS="1") as rig:
        waiting = asyncio.create_task(rig.generate(await rig.key(), n=2))
        await until_asked(rig, 1)
        asked, started = time.time(), time.monotonic()
        with capture_logs() as lines:
            await rig.gateway.stop()
        assert 1 <= time.monotonic() - started < 15
        got = await waiting
        assert got.error == (502, "upstream_error", "upstream_cut")
        assert got.headers["x-should-retry"] == "false"
        (draining,) = [line for line in lines if line["event"] == "draining"]
        assert draining["flights"] == 1
        latest = datetime.fromisoformat(draining["until_at_the_latest"]).timestamp()
        assert asked <= latest <= asked + 15
        async with books_in(tmp_path) as books:
            await books.assert_books(2)
            assert (await books.usage()).images_unknown == 2
