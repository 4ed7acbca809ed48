"""Calendar windows in UTC, and what is spent and held in one.

A window's `period` numbers the day or the month it counts. A hold carries the periods of its
reservation, so that a call over midnight is charged to the day that admitted it: a change whose
period is no longer the window's own leaves the window alone.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from msgspec import Struct

from gateway.core.listing import Shown

HOUR_SECONDS = 3_600
DAY_SECONDS = 86_400


def utc(at: float) -> str:
    """A time as ISO 8601, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def milliseconds(seconds: float) -> float:
    """Return a duration in milliseconds, to a tenth of one."""
    return round(seconds * 1_000, 1)


Timestamp = Annotated[float, Shown(str, utc)]
"""A time in seconds since the epoch. Its public form is ISO 8601."""

Duration = Annotated[float, Shown(float, milliseconds, "{}_ms")]
"""A duration in seconds. Its public form is in milliseconds."""


def day_of(now: float) -> int:
    """The UTC day's number: days since 1970-01-01."""
    return int(now // DAY_SECONDS)


def month_of(now: float) -> int:
    """The UTC month's number: 12 x year + month - 1."""
    return _month_of_day(day_of(now))


@lru_cache(64)  # of the days that purchases are of, which are few
def _month_of_day(day: int) -> int:
    at = datetime.fromtimestamp(day * DAY_SECONDS, UTC)
    return at.year * 12 + at.month - 1


def end_of_day(day: int) -> float:
    """When the day ends, in seconds since the epoch."""
    return float((day + 1) * DAY_SECONDS)


@lru_cache(64)
def end_of_month(month: int) -> float:
    """When the month ends, in seconds since the epoch."""
    year, index = divmod(month + 1, 12)
    return datetime(year, index + 1, 1, tzinfo=UTC).timestamp()


class Window(Struct, frozen=True, array_like=True):
    """What one calendar period has seen: images and micro-dollars, spent and held by open calls."""

    period: int = 0
    images: int = 0
    cost: int = 0
    held_images: int = 0
    held_cost: int = 0

    def roll(self, period: int) -> "Window":
        """The window as of `period`: itself, or an empty one once its own period is over."""
        return self if period <= self.period else Window(period)

    def hold(self, period: int, images: int, cost: int) -> "Window":
        """With a further hold, or (negative numbers) with one taken away."""
        return self._add(period, 0, 0, images, cost)

    def spend(self, period: int, images: int, cost: int) -> "Window":
        """With a further charge, or (negative numbers) with one taken back."""
        return self._add(period, images, cost, 0, 0)

    def _add(
        self, period: int, images: int, cost: int, held_images: int, held_cost: int
    ) -> "Window":
        if period != self.period:
            return self
        return Window(
            period,
            self.images + images,
            self.cost + cost,
            self.held_images + held_images,
            self.held_cost + held_cost,
        )
