"""Calendar periods in UTC, and the usage of one period.

Days and months are numbered. A hold keeps the periods of its reservation, so a call over midnight
is charged to the day that admitted it. A change for another period than the current one leaves
the usage alone.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.listing import Shown

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


def utc(at: float) -> str:
    """Format a time as ISO 8601, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(4096)  # a report has many rows of the same hour
def hour_text(hour: int) -> str:
    """Format an hour since 1970, as reports show it."""
    return utc(hour * HOUR_SECONDS)


@lru_cache(1024)
def day_text(day: int) -> str:
    """Format a day since 1970, as reports show it."""
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()


def milliseconds(seconds: float) -> float:
    """Return a duration in milliseconds, to a tenth of one."""
    return round(seconds * 1_000, 1)


Timestamp = Annotated[float, Shown(str, utc)]
"""A time in seconds since the epoch. Its public form is ISO 8601."""

Duration = Annotated[float, Shown(float, milliseconds, "{}_ms")]
"""A duration in seconds. Its public form is in milliseconds."""


def day_of(now: float) -> int:
    """Return the number of the UTC day: days since 1970-01-01."""
    return int(now // DAY_SECONDS)


def month_of(now: float) -> int:
    """Return the number of the UTC month: 12 x year + month - 1."""
    return _month_of_day(day_of(now))


@lru_cache(64)  # purchases are of few different days
def _month_of_day(day: int) -> int:
    at = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    return at.year * 12 + at.month - 1


def end_of_day(day: int) -> float:
    """Return when the day ends, in seconds since the epoch."""
    return float((day + 1) * DAY_SECONDS)


@lru_cache(64)
def end_of_month(month: int) -> float:
    """Return when the month ends, in seconds since the epoch."""
    year, index = divmod(month + 1, 12)
    return datetime(year, index + 1, 1, tzinfo=UTC).timestamp()


Period = Literal["day", "month"]


class Calendar(Struct, frozen=True):
    """How one kind of period is numbered, and when a period ends."""

    number_of: Callable[[float], int]
    end_of: Callable[[int], float]


CALENDARS: Mapping[Period, Calendar] = {
    "day": Calendar(day_of, end_of_day),
    "month": Calendar(month_of, end_of_month),
}


class PeriodUsage(Struct, frozen=True, array_like=True):
    """Images and micro-dollars of one period: those that were charged, and those that are held."""

    period: int = 0
    images: int = 0
    cost: int = 0
    held_images: int = 0
    held_cost: int = 0

    def roll(self, period: int) -> "PeriodUsage":
        """Return the usage as of `period`: empty if a new period has begun."""
        return self if period <= self.period else PeriodUsage(period)

    def hold(self, period: int, images: int, cost: int) -> "PeriodUsage":
        """Add a hold. Negative numbers take one away."""
        if period != self.period:
            return self
        held_images, held_cost = self.held_images + images, self.held_cost + cost
        return replace(self, held_images=held_images, held_cost=held_cost)

    def spend(self, period: int, images: int, cost: int) -> "PeriodUsage":
        """Add a charge. Negative numbers take one back."""
        if period != self.period:
            return self
        return replace(self, images=self.images + images, cost=self.cost + cost)
