import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.periods import (
    PeriodUsage,
    day_of,
    day_text,
    end_of_day,
    end_of_month,
    hour_text,
    milliseconds,
    month_of,
    utc,
)

times = st.floats(0, datetime(2400, 1, 1, tzinfo=UTC).timestamp(), allow_nan=False)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-01-31T23:59:59.999", "2026-02-01"),
        ("2026-02-01", "2026-03-01"),
        ("2026-12-31T23:59:59", "2027-01-01"),
        ("2028-02-29T12:00:00", "2028-03-01"),
        ("1970-01-01", "1970-02-01"),
    ],
)
def test_the_end_of_a_month(now: str, end: str) -> None:
    assert end_of_month(month_of(at(now))) == at(end)


@given(times)
def test_a_moment_lies_in_its_own_day_and_month(now: float) -> None:
    date = datetime.fromtimestamp(int(now), UTC)
    midnight = date.replace(hour=0, minute=0, second=0, microsecond=0)
    assert end_of_day(day_of(now)) == (midnight + timedelta(days=1)).timestamp()
    assert end_of_day(day_of(now) - 1) <= now < end_of_day(day_of(now))
    assert end_of_month(month_of(now) - 1) <= now < end_of_month(month_of(now))


@given(times)
def test_a_month_ends_where_the_next_begins(now: float) -> None:
    end = end_of_month(month_of(now))
    assert month_of(end) == month_of(now) + 1
    assert day_of(end - 0.001) + 1 == day_of(end)


def test_times_are_in_utc_whatever_the_zone_of_the_machine() -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert utc(1_772_366_400.9) == "2026-03-01T12:00:00Z"
        assert hour_text(492_324) == "2026-03-01T12:00:00Z"
        assert day_text(20_513) == "2026-03-01"
    time.tzset()


def test_durations_are_shown_to_a_tenth_of_a_millisecond() -> None:
    assert milliseconds(1.23456) == 1234.6


def test_a_period_counts_holds_and_charges_separately() -> None:
    usage = PeriodUsage(7).hold(7, 4, 400).hold(7, -1, -100).spend(7, 1, 90)
    assert usage == PeriodUsage(7, images=1, cost=90, held_images=3, held_cost=300)


def test_changes_of_another_period_are_ignored_and_a_new_one_starts_empty() -> None:
    usage = PeriodUsage(7, 1, 2, 3, 4)
    for period in (6, 8):
        assert usage.hold(period, 1, 1) == usage.spend(period, 1, 1) == usage
    assert usage.roll(8) == PeriodUsage(8)
    assert usage.roll(7) is usage.roll(6) is usage
