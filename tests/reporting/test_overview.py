"""The overview over a small history, with the numbers done by hand."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.faults import InvalidFields
from gateway.core.listing import listing
from gateway.core.model import Entry
from gateway.core.periods import DAY_SECONDS, day_of
from gateway.reporting.overview import Days, days_between, read_overview
from gateway.reporting.request_lines import (
    HistoryBatch,
    HourLatency,
)
from gateway.stores.port import Store
from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import MIDNIGHT, entry

TODAY = day_of(MIDNIGHT)
"""2026-03-01"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        yield store


def spent(days_ago: int, team: str, cost: int, hour: int = 5, **fields: Any) -> Entry:
    """A purchase of one image so many days before today."""
    at = MIDNIGHT - days_ago * DAY_SECONDS + hour * 3_600
    id = f"{team} {days_ago} {hour} {fields.get('key')}"
    return entry(id, at=at, team=team, cost=cost, **fields)


async def read(store: Store, days: Days, team: str | None = None) -> dict[str, Any]:
    return listing(
        await read_overview(store.usage, store.history, days, team, MIDNIGHT + 7 * 3_600 + 1)
    )


async def test_sums_of_the_span_and_of_the_one_before(store: SqliteStore) -> None:
    hit = spent(
        *(1, "red", 0, 6),
        outcome="coalesced",
        images_bought=0,
        images_cached=3,
        images_coalesced=3,
        saved=600_000,
    )
    refused = spent(
        *(1, "red", 0, 7), outcome="refused", requests=0, images_bought=0, requests_refused=4
    )
    await store.accounts.record(
        [
            *(spent(0, "red", 200_000), hit, refused),
            *(spent(2, "blue", 40_000, images_unknown=1, outcome="unknown"),),
            *(spent(3, "red", 1_000_000), spent(5, "red", 2_000_000), spent(6, "red", 5)),
        ]
    )
    page = await read(store, Days(TODAY - 2, TODAY))
    assert (page["from"], page["to"]) == ("2026-02-27", "2026-03-01")
    assert (page["before_from"], page["before_to"]) == ("2026-02-24", "2026-02-26")
    assert page["now"] == {
        "requests": 3,
        "requests_refused": 4,
        "images_bought": 2,
        "images_cached": 3,
        "images_coalesced": 3,
        "images_unknown": 1,
        "cost_usd": "0.24",
        "saved_usd": "0.6",
        "hit_ratio": 0.6,
    }
    assert (page["before"]["cost_usd"], page["before"]["hit_ratio"]) == ("3", 0.0)
    assert page["days"] == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert page["series"] == [
        {"team": "red", "cost_usd": ["0", "0", "0.2"]},
        {"team": "blue", "cost_usd": ["0.04", "0", "0"]},
    ]


async def test_the_top_teams_have_lines_and_the_rest_is_summed(store: SqliteStore) -> None:
    await store.accounts.record(
        [
            spent(day, f"t{team:02}", (team + 1) * 10_000, key=key)
            for day in (0, 4)
            for team in range(13)
            for key in ("a", "b")
        ]
    )
    page = await read(store, Days(TODAY - 4, TODAY))
    top = [f"t{team:02}" for team in range(12, 2, -1)]
    assert [one["team"] for one in page["series"]] == [*top, None]
    assert page["series"][0]["cost_usd"] == ["0.26", "0", "0", "0", "0.26"]
    assert page["series"][-1]["cost_usd"] == ["0.12", "0", "0", "0", "0.12"]
    assert [line["team"] for line in page["teams"]] == top
    assert page["teams"][0]["cost_usd"] == "0.52"
    assert page["teams"][0]["images_bought"] == 4
    assert [(line["team"], line["key"]) for line in page["keys"][:3]] == [
        ("t12", "sk-gw-a"),
        ("t12", "sk-gw-b"),
        ("t11", "sk-gw-a"),
    ]
    assert len(page["keys"]) == 10


async def test_one_team_alone(store: SqliteStore) -> None:
    await store.accounts.record(
        [spent(0, "red", 200_000), spent(0, "blue", 1), spent(40, "blue", 7)]
    )
    page = await read(store, Days(TODAY - 29, TODAY), "blue")
    assert [one["team"] for one in page["series"]] == ["blue"]
    assert (page["now"]["cost_usd"], page["before"]["cost_usd"]) == ("0.000001", "0.000007")


async def test_two_days_are_shown_by_the_hour_up_to_now(store: SqliteStore) -> None:
    await store.accounts.record([spent(1, "red", 5, hour=23), spent(0, "red", 7, hour=0)])
    page = await read(store, Days(TODAY - 1, TODAY))
    assert (page["days"][0], page["days"][-1]) == ("2026-02-28T00:00:00Z", "2026-03-01T07:00:00Z")
    costs = page["series"][0]["cost_usd"]
    assert len(costs) == len(page["days"]) == 24 + 8
    assert (costs[23], costs[24]) == ("0.000005", "0.000007")


def took(hour: int, own: float, upstream: float | None) -> HourLatency:
    """One request of an hour of today, in seconds."""
    latency = HourLatency(hour + TODAY * 24)
    latency.own.add(own)
    if upstream is not None:
        latency.upstream.add(upstream)
    return latency


async def test_latency_is_the_mean_along_the_axis(store: SqliteStore) -> None:
    timed = [took(-30, 0.5, None), took(1, 0.004, 10), took(1, 0.002, None), took(2, 0.003, 20)]
    for number, latency in enumerate(timed, 1):
        await store.history.write(
            HistoryBatch(writer="w", number=number, at=MIDNIGHT + number, latency=latency)
        )
    days = (await read(store, Days(TODAY - 4, TODAY)))["latency"]
    assert days == [
        {"day": "2026-02-27", "requests": 1, "own_ms": 500, "upstream_ms": None},
        {"day": "2026-03-01", "requests": 3, "own_ms": 3, "upstream_ms": 15_000},
    ]
    hours = (await read(store, Days(TODAY, TODAY)))["latency"]
    assert [(one["day"], one["requests"], one["own_ms"]) for one in hours] == [
        ("2026-03-01T01:00:00Z", 2, 3),
        ("2026-03-01T02:00:00Z", 1, 3),
    ]


async def test_a_span_without_requests(store: SqliteStore) -> None:
    page = await read(store, Days(TODAY - 29, TODAY))
    assert page["now"]["hit_ratio"] is None
    assert page["series"] == page["teams"] == page["keys"] == page["latency"] == []
    assert len(page["days"]) == 30


def test_the_default_span_is_the_last_thirty_days() -> None:
    assert days_between(None, None, MIDNIGHT + 5) == Days(TODAY - 29, TODAY)
    assert days_between(None, MIDNIGHT - 1, MIDNIGHT) == Days(TODAY - 30, TODAY - 1)
    assert days_between(MIDNIGHT, MIDNIGHT, MIDNIGHT) == Days(TODAY, TODAY)
    with pytest.raises(InvalidFields, match="before"):
        days_between(MIDNIGHT, MIDNIGHT - 1, MIDNIGHT)
