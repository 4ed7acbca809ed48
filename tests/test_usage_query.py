"""Days and times of a report, as they are written."""

import pytest

from gateway.usage_query import Span, bounds, moment

NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00:00Z
NOW = NOVEMBER + 21 * 86_400


def test_a_day_begins_at_midnight_and_ends_with_it() -> None:
    assert moment("2026-11-01") == NOVEMBER
    assert moment("2026-11-01", ends=True) == NOVEMBER + 86_400
    assert moment("2026-11-01T00:00:01Z", ends=True) == NOVEMBER + 1
    assert moment("2026-11-01T02:00:00+02:00") == NOVEMBER


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "2026-11-01T00:00:00", "9999-01-01", "20261101T00:00:00"]
)
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever its text
        moment(text)


def test_without_bounds_it_is_this_month() -> None:
    assert bounds(Span(), NOW) == (NOVEMBER, None)
    assert bounds(Span(last="2026-11-01"), NOW) == (NOVEMBER, NOVEMBER + 86_400)
    with pytest.raises(ValueError, match="before"):
        bounds(Span(first="2026-11-02", last="2026-11-01"), NOW)


def test_bounds_are_whole_hours() -> None:
    span = Span(first="2026-11-01T01:59:59Z", last="2026-11-01T02:00:01Z")
    assert bounds(span, NOW) == (NOVEMBER + 3_600, NOVEMBER + 3 * 3_600)
