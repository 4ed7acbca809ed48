"""Usage in both stores equals that of a list of entries, also while sums are tidied up."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import Entry, UsageRow
from gateway.stores.sums import FIELDS, SUMS, TIMES
from tests.conformance.store import MIDNIGHT, MakeStore
from tests.conformance.test_usage import tidied
from tests.support.stores import KINDS, ONE_SERVER, Places

HOUR = 3600
DAY = 24 * HOUR

words = st.sampled_from(["", "a", "b", "all", "version", '"', "[", "ü", "\x00", "1 2"])
counts = st.integers(0, 3) | st.just(2**53 + 1)
moments = st.integers(-20, 20).map(lambda half_days: MIDNIGHT + half_days * DAY / 2 + 1801.5)


@st.composite
def written(draw: st.DrawFn) -> Entry:
    """An entry; those of one id are of one moment and kind, as a reservation's are."""
    number = draw(st.integers(0, 7))
    kinds = ["cached", "coalesced", "refused"] if number < 3 else ["bought", "failed", "unknown"]
    fields: dict[str, Any] = {
        **{field: draw(words) for field in FIELDS},
        **{field: draw(counts) for field in SUMS},
        "outcome": draw(st.sampled_from(kinds)),
        "requests": draw(st.integers(1, 3)),
    }
    at = MIDNIGHT + (number - 4) * 5 * HOUR + 1801.5 + (number % 3) * 4 * DAY
    return Entry(id=f"e{number}", at=at, **fields)


Step = list[Entry] | float
"""Entries to write, or a time to tidy up at."""

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.lists(written(), min_size=1, max_size=4) | moments, max_size=8
)
bounds = st.none() | st.integers(-12, 12).map(lambda quarters: MIDNIGHT + quarters * 6 * HOUR)
some_teams = st.none() | words | st.lists(words, max_size=3).map(tuple)
groupings = st.lists(st.sampled_from((*TIMES, *FIELDS)), unique=True, max_size=4)
lines = st.lists(st.sampled_from(("team", "key", "day")), unique=True)
times = st.lists(st.sampled_from(TIMES), unique=True)
asked = st.tuples(groupings | lines | times, bounds, bounds, some_teams)


def naive(
    entries: Sequence[Entry],
    by: Sequence[str],
    start: float | None,
    end: float | None,
    team: str | Sequence[str] | None,
) -> list[UsageRow]:
    """Compute the report from a list of all entries; only the last of each id counts."""
    rows: dict[tuple[str, ...], dict[str, int]] = {}
    teams = (team,) if isinstance(team, str) else team
    for last in {one.id: one for one in entries}.values():
        if (
            (start is None or start <= last.at)
            and (end is None or last.at < end)
            and (teams is None or last.team in teams)
        ):
            at = datetime.fromtimestamp(last.at, UTC)
            texts = {"day": at.date().isoformat(), "hour": at.strftime("%Y-%m-%dT%H:00:00Z")}
            group = tuple(texts.get(field) or getattr(last, field) for field in by)
            row = rows.setdefault(group, dict.fromkeys(SUMS, 0))
            for field in SUMS:
                row[field] += getattr(last, field)
    return [UsageRow(group=group, **row) for group, row in sorted(rows.items())]


async def compare(
    make_store: MakeStore, steps: Sequence[Step], reports: Sequence[tuple[Any, ...]]
) -> None:
    entries: list[Entry] = []
    latest = -inf
    async with make_store() as store:
        for step in steps:
            if isinstance(step, float):
                await tidied(store, step, None)
                latest = max(latest, step)
            else:
                # An entry written again so late may count twice, as the port says.
                late = {entry.id for entry in entries if entry.at < latest - 3 * DAY}
                wanted = [entry for entry in step if entry.id not in late]
                entries += wanted
                await store.accounts.record(wanted)
            for report in reports:
                assert await store.usage.report(*report) == naive(entries, *report)


@pytest.mark.parametrize("kind", KINDS)
@given(steps, st.lists(asked, min_size=1, max_size=4))
@settings(max_examples=30, suppress_health_check=ONE_SERVER)
def test_reports_equal_those_of_a_list_of_entries(
    places: Places, kind: str, steps: list[Step], reports: list[tuple[Any, ...]]
) -> None:
    asyncio.run(compare(places.new(kind), steps, reports))
