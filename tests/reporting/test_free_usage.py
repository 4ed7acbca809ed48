import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Caller, ImageRequest, Key, Team, UsageRow
from gateway.reporting.free_usage import MAX_WAITING, FreeUsage
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.request_record import RequestRecord
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import NOON


class Bench:
    """The buffer in front of a store that may fail. `now` is its clock."""

    def __init__(self, sqlite: SqliteStore) -> None:
        self.sqlite = sqlite
        self.store = FaultyStore(sqlite)
        self.now = NOON
        ids = map(str, itertools.count())
        self.free_usage = FreeUsage(self.store.accounts, new_id=ids.__next__, wall=lambda: self.now)

    def answer(
        self,
        team: str = "red",
        quality: str | None = "high",
        size: str = "1024x1024",
        *,
        outcome: str = "hit",
        saved: int = 80_000,
    ) -> None:
        """Add a request that was answered with two images for nothing."""
        request = ImageRequest(
            model="gpt-image-2", prompt="an apple", size=size, n=2, quality=quality, body={}
        )
        self.free_usage.answer_ready(
            RequestRecord(
                id="r",
                started=0.0,
                caller=caller(team),
                request=request,
                outcome=outcome,
                images=2,
                saved=saved,
            )
        )

    def refuse(self, *labels: str) -> None:
        """Add a request of team "red" that was refused."""
        model, size, quality = labels
        self.free_usage.request_refused(
            RequestRecord(id="r", started=0.0, caller=caller("red"), labels=(model, size, quality))
        )

    async def rows(self, *by: str) -> list[UsageRow]:
        """The usage that is written."""
        await self.free_usage.flush()
        return await self.sqlite.usage.report(by, None, None)


def caller(team: str) -> Caller:
    key = Key(id=f"k-{team}", team=team, name="", digest=bytes(32), created=NOON)
    return Caller(Team(name=team), key)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with SqliteStore(tmp_path / "gateway.db") as sqlite:
        yield Bench(sqlite)


async def test_cache_hits_of_one_kind_are_merged_into_one_entry(bench: Bench) -> None:
    for number in range(1000):
        bench.now = NOON + number / 1000
        bench.answer()
    (row,) = await bench.rows()
    assert bench.store.asked["record"] == 1
    assert (row.requests, row.images_cached, row.saved) == (1000, 2000, 80_000_000)
    assert (row.images_bought, row.images_unknown, row.cost) == (0, 0, 0)


async def test_each_kind_of_answer_has_an_entry_of_its_own(bench: Bench) -> None:
    for outcome in ("hit", "collapsed", "miss"):  # a purchase is recorded by the ledger
        bench.answer("blue", None, "auto", outcome=outcome)
    bench.answer("red", "high", "1024x1024")
    bench.answer("red", "high", "auto")
    rows = await bench.rows("team", "key", "quality", "size", "outcome")
    assert [(row.group, row.images_cached, row.images_coalesced) for row in rows] == [
        (("blue", "k-blue", "auto", "auto", "cached"), 2, 0),
        (("blue", "k-blue", "auto", "auto", "coalesced"), 2, 2),
        (("red", "k-red", "high", "1024x1024", "cached"), 2, 0),
        (("red", "k-red", "high", "auto", "cached"), 2, 0),
    ]


async def test_refusals_are_merged_and_do_not_count_as_requests(bench: Bench) -> None:
    for _ in range(1000):
        bench.refuse("other", "other", "other")
    bench.refuse("gpt-image-2", "auto", "high")
    rows = await bench.rows("outcome", "model")
    assert bench.store.asked["record"] == 1
    assert [row.group for row in rows] == [("refused", "gpt-image-2"), ("refused", "other")]
    assert [(row.requests, row.requests_refused) for row in rows] == [(0, 1), (0, 1000)]


async def test_an_entry_that_the_store_refuses_is_dropped_alone(bench: Bench) -> None:
    bench.answer()
    bench.answer("blue", saved=2**70)
    bench.answer("green")
    await bench.free_usage.flush()
    bench.answer()
    rows = await bench.rows("team")
    assert [(row.group, row.requests) for row in rows] == [(("green",), 1), (("red",), 2)]


async def test_entries_merged_during_an_outage_stay_in_their_hour(bench: Bench) -> None:
    bench.store.leave()
    for bench.now in (NOON, NOON + 1, NOON + 3_600):
        bench.answer()
    with pytest.raises(StoreUnavailable):
        await bench.free_usage.flush()
    bench.store.come_back()
    assert [row.requests for row in await bench.rows("hour")] == [2, 1]


async def test_a_long_outage_takes_a_bounded_amount_of_memory(bench: Bench) -> None:
    for number in range(MAX_WAITING + 50):
        bench.answer(size=str(number))
    (row,) = await bench.rows()
    assert row.requests == MAX_WAITING
