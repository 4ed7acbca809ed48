"""The span of a usage report, and its rows in pieces."""

from pathlib import Path

import pytest

from gateway.core.faults import InvalidFields
from gateway.reporting.queries import Span, parse_time, usage_bounds, usage_pieces
from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import MIDNIGHT, entry

NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00:00Z
NOW = NOVEMBER + 21 * 86_400


def test_a_day_begins_at_midnight_and_ends_with_it() -> None:
    assert parse_time("2026-11-01") == NOVEMBER
    assert parse_time("2026-11-01", ends=True) == NOVEMBER + 86_400
    assert parse_time("2026-11-01T00:00:01Z", ends=True) == NOVEMBER + 1
    assert parse_time("2026-11-01T02:00:00+02:00") == NOVEMBER


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "2026-11-01T00:00:00", "9999-01-01", "20261101T00:00:00"]
)
def test_other_text_is_not_a_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text comes from the standard library
        parse_time(text)


def test_the_default_span_is_this_month() -> None:
    assert usage_bounds(Span(), NOW) == (NOVEMBER, None)
    assert usage_bounds(Span(last="2026-11-01"), NOW) == (NOVEMBER, NOVEMBER + 86_400)
    with pytest.raises(InvalidFields, match="before"):
        usage_bounds(Span(first="2026-11-02", last="2026-11-01"), NOW)


def test_bounds_are_whole_hours() -> None:
    span = Span(first="2026-11-01T01:00:00Z", last="2026-11-01T05:00:00+02:00")
    assert usage_bounds(span, NOW) == (NOVEMBER + 3_600, NOVEMBER + 3 * 3_600)


@pytest.mark.parametrize("name", ["from", "to"])
@pytest.mark.parametrize("text", ["2026-11-03T01:59:59Z", "2026-11-03T00:00:00+05:30"])
def test_bounds_within_an_hour_are_refused(name: str, text: str) -> None:
    span = Span(first=text) if name == "from" else Span(last=text)
    with pytest.raises(InvalidFields, match=rf"^{name}: is not on the hour"):
        usage_bounds(span, NOW)


async def test_a_report_by_time_is_read_day_by_day(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        for day in (0, 1, 3):
            at = MIDNIGHT + day * 86_400 + 3_600 * 11
            await store.accounts.record([entry(f"{day}a", at=at), entry(f"{day}b", at=at + 3_600)])

        async def rows_by(*by: str, end: float | None = None) -> list[list[str]]:
            pieces = usage_pieces(store.usage, by, MIDNIGHT + 3_600, end, None)
            return [[row[by[-1]] for row in rows] async for rows in pieces]

        assert await rows_by("team", "day") == [["2026-03-01"], ["2026-03-02"], ["2026-03-04"]]
        assert [len(rows) for rows in await rows_by("hour")] == [2, 2, 2]
        half = MIDNIGHT + 86_400 + 3_600 * 12
        assert [len(rows) for rows in await rows_by("hour", end=half)] == [2, 1]
        assert await rows_by("team") == [["red"]]
        assert await rows_by("team", end=MIDNIGHT + 7_200) == []
