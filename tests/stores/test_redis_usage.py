"""The Redis store's usage history: what is summed, and for how long it can be taken back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.model import Entry, UsageRow
from gateway.ports import Change
from gateway.rules.account import EMPTY
from gateway.rules.store_url import parse_store_url
from gateway.stores.faults import Unwritable
from gateway.stores.redis import RedisStore, names
from tests.stores.conformance.store import MIDNIGHT, MakeStore, Store, entry
from tests.support.redis import RedisServer, running_redis

HOUR = 3600
MIDNIGHT_HOUR = int(MIDNIGHT) // HOUR
FIELDS = ("team", "key", "model", "size", "quality", "outcome", "day")
SUMS = ("requests", "images_bought", "images_cached", "images_unknown", "cost", "saved")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def make_store(server: RedisServer) -> MakeStore:
    return partial(RedisStore, parse_store_url(server.url))


@pytest.mark.parametrize(
    "entries",
    [
        [entry("new", cost=6 * 10**18)],
        [entry("new", cost=2**53), entry("e", cost=-1)],
        [entry("new", cost=4 * 10**18), entry("more", cost=2 * 10**18)],
    ],
    ids=["sum", "negative", "together"],
)
async def test_what_no_sum_can_take_is_refused_before_anything_is_written(
    server: RedisServer, make_store: MakeStore, entries: list[Entry]
) -> None:
    async with make_store() as store, server.client() as client:
        await store.swap([Change("a", 0, EMPTY)], [entry("e", cost=4 * 10**18 + 1)])
        before = {key: await client.dump(key) for key in await client.keys()}
        with pytest.raises(Unwritable):
            await store.swap([Change("a", 1, EMPTY)], entries)
        assert {key: await client.dump(key) for key in await client.keys()} == before
        assert await store.swap([Change("a", 1, EMPTY)], [entry("new", cost=2**53)])
        (row,) = await store.usage([], None, None)
        assert row.cost == 4 * 10**18 + 1 + 2**53


words = st.sampled_from(["", "a", "b", "a|b", '"', "[", "ü", "\x00", "1 2"])
counts = st.integers(0, 3) | st.just(2**53 + 1)


@st.composite
def written(draw: st.DrawFn) -> Entry:
    """An entry; those of one id are of one moment, as a reservation's are."""
    number = draw(st.integers(0, 5))
    hit = number == 0
    return Entry(
        id=f"e{number}",
        at=MIDNIGHT + (number - 3) * 1801.5,
        team=draw(words),
        key=draw(words),
        model=draw(words),
        size=draw(words),
        quality=draw(words),
        outcome="cached" if hit else draw(st.sampled_from(["bought", "failed", "unknown"])),
        requests=draw(st.integers(1, 3)),
        images_bought=draw(counts),
        images_cached=draw(counts),
        images_unknown=draw(counts),
        cost=draw(counts),
        saved=draw(counts),
    )


def naive(
    entries: Sequence[Entry], by: Sequence[str], start: float, end: float, team: str | None
) -> list[UsageRow]:
    """The same report from a list of all entries, the last of each id alone."""
    rows: dict[tuple[str, ...], dict[str, int]] = {}
    for last in {one.id: one for one in entries}.values():
        if start <= last.at < end and team in (None, last.team):
            day = datetime.fromtimestamp(last.at, UTC).date().isoformat()
            group = tuple(day if field == "day" else getattr(last, field) for field in by)
            row = rows.setdefault(group, dict.fromkeys(SUMS, 0))
            for field in SUMS:
                row[field] += getattr(last, field)
    return [UsageRow(group=group, **row) for group, row in sorted(rows.items())]


bounds = st.integers(-3, 3).map(lambda hours: MIDNIGHT + hours * HOUR)


@given(
    st.lists(st.lists(written(), max_size=4), max_size=4),
    st.lists(st.sampled_from(FIELDS), unique=True),
    bounds,
    bounds,
    st.none() | words,
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sums_are_those_of_a_list_of_entries(
    server: RedisServer,
    make_store: MakeStore,
    batches: list[list[Entry]],
    by: list[str],
    start: float,
    end: float,
    team: str | None,
) -> None:
    async def compare() -> None:
        async with server.client() as client:
            await client.flushall()
        async with make_store() as store:
            for number, batch in enumerate(batches):
                if number % 2:
                    await store.record(batch)
                else:
                    assert await store.swap([], batch)
            entries = [one for batch in batches for one in batch]
            assert await store.usage(by, start, end, team) == naive(entries, by, start, end, team)
            assert await store.usage(by, None, None) == naive(entries, by, 0, 2**40, None)

    asyncio.run(compare())


async def kept_seconds(server: RedisServer, key: str) -> int:
    async with server.client() as client:
        return int(await client.ttl(key))


async def test_entries_can_be_taken_back_for_a_while_and_sums_stay(
    server: RedisServer, make_store: MakeStore
) -> None:
    async with make_store() as store:
        now = (await store.load([])).now
        for at in (now - 40 * 86_400, now):
            hour = int(at) // HOUR
            await store.record([entry("e", at=at), entry("h", at=at, outcome="cached")])
            seconds = await kept_seconds(server, names.purchases(hour))
            assert 3 * 86_400 - 60 < seconds <= 3 * 86_400 + HOUR
            assert HOUR - 60 < await kept_seconds(server, names.hits(hour)) <= 2 * HOUR
            assert await kept_seconds(server, names.usage(hour)) == -1


async def test_a_long_history_is_read_in_pieces(make_store: MakeStore) -> None:
    hours = 24 * 7 + 5
    async with make_store() as store:
        await store.record([entry(str(n), at=MIDNIGHT + n * HOUR) for n in range(hours)])
        rows = await store.usage(["day"], None, None)
        assert [row.requests for row in rows] == [24] * 7 + [5]
        week = await store.usage([], MIDNIGHT + 24 * HOUR, MIDNIGHT + 7 * 24 * HOUR)
        assert week[0].requests == 24 * 6


async def test_bounds_between_two_hours_count_as_the_later_one(make_store: MakeStore) -> None:
    async def count(store: Store, start: float, end: float) -> int:
        return sum(row.requests for row in await store.usage([], start, end))

    async with make_store() as store:
        await store.record([entry("1", at=MIDNIGHT + 5), entry("2", at=MIDNIGHT + HOUR + 5)])
        assert await count(store, MIDNIGHT, MIDNIGHT + 1) == 1
        assert await count(store, MIDNIGHT + 1, MIDNIGHT + 2 * HOUR) == 1
        assert await count(store, MIDNIGHT, MIDNIGHT + 2 * HOUR) == 2


async def test_a_group_that_has_nothing_any_more_is_no_row(
    server: RedisServer, make_store: MakeStore
) -> None:
    async with make_store() as store:
        unknown = entry("e", at=MIDNIGHT, outcome="unknown", images_unknown=1)
        assert await store.swap([Change("a", 0, EMPTY)], [unknown])
        assert await store.swap([Change("a", 1, EMPTY)], [replace(unknown, outcome="failed")])
        rows = await store.usage(["outcome"], None, None)
        assert [row.group for row in rows] == [("failed",)]
    async with server.client() as client:
        fields = await client.hkeys(names.usage(MIDNIGHT_HOUR))
        assert not any(b"unknown" in field for field in fields)


async def test_a_swap_that_loses_writes_no_entry(make_store: MakeStore) -> None:
    async with make_store() as store:
        assert not await store.swap([Change("a", 7, EMPTY)], [entry("e")])
        assert await store.usage([], None, None) == []


async def test_what_cannot_be_grouped_by_is_refused(make_store: MakeStore) -> None:
    async with make_store() as store:
        with pytest.raises(ValueError, match="'prompt'"):
            await store.usage(["prompt"], None, None)
