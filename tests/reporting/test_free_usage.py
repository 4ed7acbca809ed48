import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Bought, Caller, ImageRequest, Key, Team, UsageRow
from gateway.reporting.free_usage import FLUSH_SECONDS, MAX_WAITING, Hits
from gateway.stores.sqlite import SqliteStore
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import NOON

BOUGHT = Bought(body=b"{}", images=2, cost=80_000, at=NOON - 60)


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        yield store


@pytest.fixture
async def store(sqlite: SqliteStore) -> FaultyStore:
    return FaultyStore(sqlite)


@pytest.fixture
async def hits(store: FaultyStore) -> AsyncIterator[Hits]:
    numbers = itertools.count()
    hits = Hits(store.accounts, new_id=lambda: f"hit-{next(numbers)}", wall=lambda: NOON)
    yield hits
    await hits.close()


def caller(team: str) -> Caller:
    key = Key(id=f"k-{team}", team=team, name="", digest=bytes(32), created=NOON)
    return Caller(Team(name=team), key)


def add(
    hits: Hits,
    team: str = "red",
    quality: str | None = "high",
    size: str = "1024x1024",
    now: float = NOON,
    *,
    bought: Bought = BOUGHT,
    coalesced: bool = False,
) -> None:
    request = ImageRequest(
        model="gpt-image-2", prompt="an apple", size=size, n=2, quality=quality, body={}
    )
    hits.add(caller(team), request, bought.images, bought.cost, now, coalesced=coalesced)


async def total(sqlite: SqliteStore) -> UsageRow | None:
    rows = await sqlite.usage.report([], None, None)
    return rows[0] if rows else None


async def test_hits_are_merged_and_written_together(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    for number in range(1000):
        add(hits, now=NOON + number / 1000)
    await hits.flush()
    assert store.asked["record"] == 1
    row = await total(sqlite)
    assert row is not None
    assert (row.requests, row.images_cached, row.saved) == (1000, 2000, 80_000_000)
    assert (row.images_bought, row.images_unknown, row.cost) == (0, 0, 0)


async def test_what_differs_is_kept_apart(hits: Hits, sqlite: SqliteStore) -> None:
    for team, quality, size in itertools.product(
        ("red", "blue"), ("high", None), ("auto", "1024x1024")
    ):
        add(hits, team, quality, size)
    await hits.flush()
    rows = await sqlite.usage.report(["team", "key", "quality", "size", "outcome"], None, None)
    assert [row.group for row in rows] == [
        (team, f"k-{team}", quality, size, "cached")
        for team, quality, size in itertools.product(
            ("blue", "red"), ("auto", "high"), ("1024x1024", "auto")
        )
    ]
    assert {row.requests for row in rows} == {1}


async def test_followers_of_a_flight_are_told_apart(hits: Hits, sqlite: SqliteStore) -> None:
    add(hits)
    add(hits, coalesced=True)
    await hits.flush()
    rows = await sqlite.usage.report(["outcome"], None, None)
    assert [row.group for row in rows] == [("cached",), ("coalesced",)]
    assert [(row.images_cached, row.images_coalesced) for row in rows] == [(2, 0), (2, 2)]


async def test_refusals_are_merged_and_are_no_requests(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    for _ in range(1000):
        hits.refuse(caller("red"), ("other", "other", "other"), NOON)
    hits.refuse(caller("red"), ("gpt-image-2", "auto", "high"), NOON)
    await hits.flush()
    assert store.asked["record"] == 1
    rows = await sqlite.usage.report(["outcome", "model"], None, None)
    assert [row.group for row in rows] == [("refused", "gpt-image-2"), ("refused", "other")]
    assert [(row.requests, row.requests_refused) for row in rows] == [(0, 1), (0, 1000)]


async def test_one_that_cannot_be_written_is_dropped_alone(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    add(hits)
    add(hits, "blue", bought=replace(BOUGHT, cost=2**70))
    add(hits, "green")
    await hits.flush()
    add(hits)
    await hits.flush()
    rows = await sqlite.usage.report(["team"], None, None)
    assert [(row.group, row.requests) for row in rows] == [(("green",), 1), (("red",), 2)]


async def test_nothing_is_written_where_nothing_was_hit(hits: Hits, store: FaultyStore) -> None:
    await hits.flush()
    assert store.asked["record"] == 0


async def test_they_are_written_within_a_second_or_so(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    hits.start()
    add(hits)
    await asyncio.sleep(FLUSH_SECONDS + 0.3)
    assert await total(sqlite) is not None


async def test_closing_writes_the_last(hits: Hits, sqlite: SqliteStore) -> None:
    hits.start()
    add(hits)
    await hits.close()
    assert await total(sqlite) is not None


async def test_closing_without_a_store_is_quiet(hits: Hits, store: FaultyStore) -> None:
    add(hits)
    store.leave()
    await hits.close()
    store.come_back()


async def test_they_are_kept_while_the_store_is_away(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.leave()
    for _ in range(3):
        add(hits)
        with pytest.raises(StoreUnavailable):
            await hits.flush()
    store.come_back()
    add(hits)
    await hits.flush()
    await hits.flush()
    row = await total(sqlite)
    assert row is not None
    assert row.requests == 4


async def test_a_long_outage_does_not_keep_them_all(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.leave()
    for number in range(MAX_WAITING + 50):
        add(hits, size=str(number))
    with pytest.raises(StoreUnavailable):
        await hits.flush()
    store.come_back()
    await hits.flush()
    row = await total(sqlite)
    assert row is not None
    assert row.requests == MAX_WAITING


async def test_flushes_at_once_lose_nothing(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.seconds = 0.02
    writing = []
    for _ in range(5):
        add(hits)
        writing.append(asyncio.create_task(hits.flush()))
        await asyncio.sleep(0.005)
    store.leave()
    await asyncio.gather(*writing, return_exceptions=True)
    store.come_back()
    await hits.flush()
    row = await total(sqlite)
    assert row is not None
    assert row.requests == 5


async def test_a_flush_that_fails_beside_one_that_does_not_loses_nothing(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.lag = 0.1
    add(hits)
    first = asyncio.create_task(hits.flush())
    await asyncio.sleep(0.05)
    store.leave()
    add(hits)
    with pytest.raises(StoreUnavailable):
        await hits.flush()
    await first
    store.come_back()
    await hits.flush()
    row = await total(sqlite)
    assert row is not None
    assert row.requests == 2


async def test_what_comes_while_they_are_written_is_not_lost(
    hits: Hits, store: FaultyStore, sqlite: SqliteStore
) -> None:
    store.seconds = 0.02
    add(hits)
    writing = asyncio.create_task(hits.flush())
    await asyncio.sleep(0.01)
    add(hits)
    await writing
    await hits.flush()
    row = await total(sqlite)
    assert row is not None
    assert row.requests == 2
