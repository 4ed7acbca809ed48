"""The suite for HistoryStore: recent requests, errors and latency."""

import asyncio
from typing import Any

from msgspec.structs import replace

from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.reporting.request_lines import (
    HistoryBatch,
    HourLatency,
    LineFilter,
    RequestLine,
    TeamErrors,
    make_place,
    place_prefix,
    ring_sizes,
)
from gateway.stores.port import Store
from tests.conformance.store import NOON, MakeStore
from tests.reporting.test_request_lines import KIND as NAMED_KIND
from tests.reporting.test_request_lines import LINE

WRITER = "0123abcd"
HOUR = int(NOON // HOUR_SECONDS)
ALL = LineFilter()

KIND = replace(NAMED_KIND, last_id="ü r1")


def line(number: int, *, at: float = NOON, writer: str = WRITER, **fields: Any) -> RequestLine:
    """The `number`th line of a writer: a purchase unless said otherwise."""
    bought = {"outcome": "miss", "status": 200, "code": None, "images": 1, "cost": 40_000}
    values = {"place": make_place(at, writer, number), "id": f"r{number}", **bought, **fields}
    return replace(LINE, **values)


def stranger(number: int, route: str | None = None) -> RequestLine:
    """The `number`th line of a writer: requests without a known key."""
    unknown = dict.fromkeys(
        (
            *("team", "key", "model", "size", "quality", "upstream", "fingerprint"),
            *("upstream_status", "reason", "refused_by"),
        )
    )
    values = {"outcome": "unauthenticated", "status": 401, "code": "invalid_api_key", "requests": 3}
    return replace(line(number), **unknown, **values, route=route)


def latency(*own: float, hour: int = HOUR) -> HourLatency:
    """An hour with requests of these seconds, and a call to the upstream of 20 s."""
    latency = HourLatency(hour)
    for seconds in own:
        latency.own.add(seconds)
    latency.upstream.add(20.0)
    return latency


async def add(store: Store, number: int, *lines: RequestLine, **fields: Any) -> None:
    """Write the `number`th batch."""
    values = {"writer": WRITER, "number": number, "at": NOON, "lines": lines}
    await store.history.write(HistoryBatch(**{**values, **fields}))


async def test_lines_come_back_the_latest_first(make_store: MakeStore) -> None:
    lines = [
        *(line(1), stranger(2, route="quota")),
        line(3, outcome="hit", at=NOON + 0.5, saved=40_000),
    ]
    async with make_store() as store:
        assert await store.history.lines(ALL, 10) == []
        await add(store, 1, *lines)
    async with make_store() as store:
        assert await store.history.lines(ALL, 10) == lines[::-1]
        assert await store.history.lines(ALL, 2) == lines[:0:-1]


async def test_pages_do_not_change_while_lines_arrive(store: Store) -> None:
    kinds = (lambda number: line(number, at=NOON + number), stranger)
    lines = [kinds[number % 2](number) for number in range(1, 41)]
    lines.sort(key=lambda line: line.place, reverse=True)
    await add(store, 1, *lines)
    found: list[RequestLine] = []
    before = None
    for number in range(2, 100):
        page = await store.history.lines(ALL, 3, before)
        if not page:
            break
        found += page
        before = page[-1].place
        await add(store, number, line(number + 100, at=NOON + 1_000))
    assert found == lines


async def test_a_filter_selects_lines(store: Store) -> None:
    failed = line(2, at=NOON + 1, team="blue", key="k2", outcome="upstream_cut", status=502)
    hit = line(3, at=NOON + 2, outcome="hit")
    await add(store, 1, line(1), failed, hit, stranger(4))
    for wanted, found in (
        (LineFilter(team="red"), [hit, line(1)]),
        (LineFilter(key="k2"), [failed]),
        (LineFilter(outcome="hit"), [hit]),
        (LineFilter(id="r4"), [stranger(4)]),
        (LineFilter(errors=True), [failed, stranger(4)]),
        (LineFilter(errors=True, team="blue"), [failed]),
        (LineFilter(team="' OR 1"), []),
        (LineFilter(since=place_prefix(NOON + 1)), [hit, failed]),
        (LineFilter(since=place_prefix(NOON + 3)), []),
    ):
        assert await store.history.lines(wanted, 10) == found
    since = LineFilter(since=place_prefix(NOON + 1))
    assert await store.history.lines(since, 10, place_prefix(NOON + 2)) == [failed]


async def test_a_filter_finds_lines_behind_many_others(store: Store) -> None:
    lines = [line(number, outcome="hit") for number in range(1, 1_200)]
    await add(store, 1, line(0), stranger(2_000), *lines)
    assert await store.history.lines(LineFilter(outcome="miss"), 10) == [line(0)]
    assert len(await store.history.lines(ALL, 5_000)) == 1_201


async def test_a_batch_written_again_counts_once(store: Store, other: Store) -> None:
    fields = {"errors": [TeamErrors("red", KIND)], "latency": latency(0.001)}
    await asyncio.gather(*(add(one, 1, line(1), **fields) for one in (store, other)))
    assert await store.history.lines(ALL, 10) == [line(1)]
    assert await store.history.errors(NOON, NOON + 1) == [KIND]
    assert (await store.history.latency(NOON, NOON + 1)) == [latency(0.001)]
    await add(store, 2, line(2), **fields)
    await add(store, 1, line(3, writer="00000000"), writer="00000000", **fields)
    assert len(await store.history.lines(ALL, 10)) == 3
    assert (await store.history.errors(NOON, NOON + 1))[0].requests == 3 * KIND.requests


async def test_each_ring_keeps_its_share(store: Store) -> None:
    await add(store, 1, *(line(number) for number in range(200)))
    await add(store, 2, *(line(number, outcome="hit") for number in range(200, 400)))
    await add(store, 3, *(stranger(number) for number in range(400, 600)), keep=100)
    kept = await store.history.lines(ALL, 1_000)
    counts = {ring: sum(line.ring == ring for line in kept) for ring in ring_sizes(100)}
    assert counts == ring_sizes(100)
    assert {line.id for line in kept} == {
        f"r{number}" for number in (*range(160, 200), *range(350, 400), *range(590, 600))
    }
    await add(store, 4, line(700), keep=0)
    assert await store.history.lines(ALL, 1_000) == []


async def test_errors_are_counted_by_kind_hour_and_team(store: Store) -> None:
    later = replace(KIND, requests=5, last_at=NOON + HOUR_SECONDS, last_id="r9")
    unknown = replace(KIND, outcome="not_found", code=None, status=404, requests=100)
    await add(store, 1, errors=[TeamErrors("red", KIND), TeamErrors(None, unknown)])
    await add(store, 2, at=NOON + HOUR_SECONDS, errors=[TeamErrors("red", later)])
    await add(store, 3, errors=[TeamErrors("blue", replace(KIND, last_at=NOON - 5))])
    both = replace(later, requests=2 * KIND.requests + later.requests)
    assert await store.history.errors(NOON - HOUR_SECONDS, NOON + DAY_SECONDS) == [unknown, both]
    assert await store.history.errors(NOON, NOON + HOUR_SECONDS, "red") == [KIND]
    assert await store.history.errors(NOON + 1, NOON + 2 * HOUR_SECONDS) == [later]
    assert await store.history.errors(NOON - HOUR_SECONDS, NOON) == []
    assert await store.history.errors(NOON - HOUR_SECONDS, NOON + DAY_SECONDS, "green") == []


async def test_latency_is_added_up_by_hour(store: Store, other: Store) -> None:
    next_day = latency(0.5, hour=HOUR + 24)
    await asyncio.gather(
        *(add(one, 1, writer=f"{number:08x}", latency=latency(0.001, 3.0))
          for number, one in enumerate((store, other) * 5))
    )  # fmt: skip
    await add(store, 1, latency=next_day)
    (hour, day) = await store.history.latency(NOON, NOON + 2 * DAY_SECONDS)
    assert (hour.hour, hour.own.count, hour.upstream.count) == (HOUR, 20, 10)
    assert hour.own.micros == 10 * 3_001_000
    assert (hour.own.counts[1], hour.own.counts[-1]) == (10, 10)
    assert day == next_day
    assert await store.history.latency(NOON + 1, NOON + DAY_SECONDS) == []
    assert await store.history.latency(NOON - 399 * DAY_SECONDS, NOON + 1) == [hour]


async def test_what_is_old_is_forgotten(store: Store) -> None:
    await add(store, 1, line(1), stranger(2), latency=latency(0.001))
    await add(store, 2, line(3, at=NOON + 60))
    await store.history.forget(NOON + 7 * DAY_SECONDS + 60)
    assert await store.history.lines(ALL, 10) == [line(3, at=NOON + 60)]
    await store.history.forget(NOON + 400 * DAY_SECONDS)
    assert await store.history.lines(ALL, 10) == []
    assert len(await store.history.latency(NOON, NOON + 1)) == 1
    await store.history.forget(NOON + 401 * DAY_SECONDS)
    assert await store.history.latency(NOON, NOON + 1) == []


async def test_it_is_no_part_of_an_archive(store: Store) -> None:
    before = [record async for batch in store.archive.export() for record in batch]
    await add(store, 1, line(1), errors=[TeamErrors("red", KIND)], latency=latency(0.1))
    assert [record async for batch in store.archive.export() for record in batch] == before
