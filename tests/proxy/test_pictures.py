"""Fetching, keeping and showing pictures over parts that are slow, or fail."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.images.fetch import GONE
from gateway.upstream.port import Reply
from tests.support.proxy_bench import Bench, running_bench

URL = "https://images.example.com/apple.png"
LASTING = f"{URL}?exp=9999999999"
PICTURE = b"\x89PNG\r\n\x1a\n apple"
BASE64 = base64.b64encode(PICTURE).decode()


class Fetching:
    """Fetches what it has, once it may."""

    def __init__(self, *found: bytes | None) -> None:
        self.found = list(found)
        self.may = asyncio.Event()
        self.may.set()
        self.began = asyncio.Event()
        self.asked: list[str] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def fetch_all(
        self,
        urls: Sequence[str],
        base_url: str,
        fetch_hosts: Collection[str],
        max_bytes: int,
        id: str,
    ) -> list[bytes | None]:
        self.asked += urls
        self.began.set()
        await self.may.wait()
        return self.found


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


def answering(bench: Bench, *items: dict[str, Any]) -> bytes:
    """Let the upstream answer with these items, and return its body."""
    body = json.dumps({"created": 1, "data": items}).encode()

    async def answer(request: bytes) -> Reply:
        return Reply(200, {}, body)

    bench.upstream.answer = answer
    return body


def fetching(bench: Bench, *found: bytes | None) -> Fetching:
    fetcher = Fetching(*found)
    bench.proxy.pictures.fetcher = fetcher  # type: ignore[assignment]  # it stands in for HTTP
    return fetcher


async def test_base64_is_fetched_once_and_only_where_it_lacks(bench: Bench) -> None:
    answering(bench, {"url": URL}, {"b64_json": "AAAA"})
    fetcher = fetching(bench, PICTURE)
    for outcome in ("miss", "hit"):
        response, record = await bench.generate()
        data = json.loads(response.body)["data"]
        assert (record.outcome, data) == (
            outcome,
            [{"url": URL, "b64_json": BASE64}, {"b64_json": "AAAA"}],
        )
    assert fetcher.asked == [URL]


async def test_few_more_pictures_than_were_asked_for_are_fetched(bench: Bench) -> None:
    answering(bench, *({"url": f"{URL}?{number}"} for number in range(9)))
    fetcher = fetching(bench, *[PICTURE] * 3)
    response, _ = await bench.generate()
    assert fetcher.asked == [f"{URL}?{number}" for number in range(3)]
    data = json.loads(response.body)["data"]
    assert ["b64_json" in item for item in data] == [True] * 3 + [False] * 6


async def test_an_answer_goes_out_as_it_came_if_nothing_can_be_fetched(bench: Bench) -> None:
    body = answering(bench, {"url": LASTING})
    fetching(bench, None)
    response, record = await bench.generate()
    assert (response.body, record.outcome) == (body, "miss")
    response, record = await bench.generate()
    assert (response.body, record.outcome) == (body, "hit")


async def test_a_picture_that_its_server_does_not_have_is_not_cached(bench: Bench) -> None:
    body = answering(bench, {"url": LASTING})
    fetching(bench, GONE)
    for _ in range(2):
        response, record = await bench.generate()
        assert json.loads(response.body) == json.loads(body)
        assert record.outcome == "miss"
        assert response.cache_status == "gateway; fwd=miss"
    assert (await bench.account()).day.images == 2


@pytest.mark.parametrize(("life", "left"), [(45, 0), (1_000, 880)])
async def test_a_url_lives_on_while_its_picture_is_fetched_in_vain(
    life: int, left: int, bench: Bench
) -> None:
    bought = time.time()
    answering(bench, {"url": f"{URL}?exp={int(bought) + life}"})
    fetcher = fetching(bench, None)
    fetcher.may.clear()
    first = asyncio.create_task(bench.generate())
    await fetcher.began.wait()
    bench.proxy.wall = lambda: bought + 60
    fetcher.may.set()
    response, _ = await first
    assert response.cache_status == ("gateway; fwd=miss; stored" if left else "gateway; fwd=miss")
    entries = [entry.left async for entry in bench.proxy.cache.walk()]
    assert entries == ([pytest.approx(left, abs=5)] if left else [])


async def test_a_defect_in_fetching_costs_no_answer(bench: Bench) -> None:
    body = answering(bench, {"url": LASTING})
    fetching(bench)  # it returns too few
    response, _ = await bench.generate()
    assert response.body == body
    assert (await bench.account()).day.images == 1


async def test_the_purchase_is_settled_before_its_picture_is_fetched(bench: Bench) -> None:
    answering(bench, {"url": URL})
    fetcher = fetching(bench, PICTURE)
    fetcher.may.clear()
    first = asyncio.create_task(bench.generate())
    await fetcher.began.wait()
    name = "team:team"
    account = (await bench.store.accounts.load([name])).accounts[0][0]
    assert (account.day.images, account.holds) == (1, {})
    follower = asyncio.create_task(bench.generate())
    first.cancel()  # its client leaves
    await asyncio.gather(first, return_exceptions=True)
    fetcher.may.set()
    response, record = await follower
    assert record.outcome == "collapsed"
    assert json.loads(response.body)["data"][0]["b64_json"] == BASE64


async def test_a_drain_ends_the_fetch_and_the_answer_goes_out_as_it_came(bench: Bench) -> None:
    body = answering(bench, {"url": LASTING})
    fetcher = fetching(bench, PICTURE)
    fetcher.may.clear()
    request = asyncio.create_task(bench.generate())
    await fetcher.began.wait()
    await bench.proxy.flights.drain(0)
    assert (await request)[0].body == body


async def test_a_slow_disk_delays_an_answer_for_two_seconds_at_most(bench: Bench) -> None:
    class Disk:
        """A disk that hangs until it may go on."""

        def __init__(self) -> None:
            self.may = asyncio.Event()
            self.kept = 0

        async def keep(self, data: bytes) -> str:
            self.kept += 1
            await self.may.wait()
            return "a" * 64 + ".png"

        async def has(self, name: str) -> bool:
            await self.may.wait()
            return True

    disk, remembered = Disk(), asyncio.Event()
    pictures = bench.proxy.pictures
    pictures.store = disk  # type: ignore[assignment]  # it stands in for a disk
    pictures.remember = lambda name, bought: remembered.set()
    answering(bench, {"b64_json": BASE64})
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(bench.generate(response_format="url", origin="http://gateway") for _ in range(5))
    )
    assert 1.9 < asyncio.get_running_loop().time() - started < 20
    assert {json.loads(response.body)["data"][0]["b64_json"] for response, _ in answers} == {BASE64}
    assert disk.kept == 1
    disk.may.set()
    await remembered.wait()
    response, _ = await bench.generate(response_format="url", origin="http://gateway")
    assert json.loads(response.body)["data"][0]["url"].startswith("http://gateway/v1/images/files/")
    disk.may.clear()
    response, _ = await bench.generate(response_format="url", origin="http://gateway")
    assert json.loads(response.body)["data"][0]["b64_json"] == BASE64
