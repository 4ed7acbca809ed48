"""The kinds of limits, and how much of each limit is used.

`KINDS` is the only list of the kinds. Refusals, rate-limit headers, reports, metrics and alerts
all go over `limit_states`, so a new budget needs a row here and its field in `Limits`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal

from msgspec import Struct

from gateway.core.model import Limits
from gateway.core.money import MICRO
from gateway.core.periods import CALENDARS, Period, PeriodUsage
from gateway.quota.account import MINUTE_BUCKETS, Account, Counters

Unit = Literal["images", "usd", "requests", "calls"]


class LimitKind(Struct, frozen=True):
    """One kind of limit. `name` is what users call it, `field` is its field in `Limits`.

    Limits with a `period` are budgets: they count images or micro-dollars in each period. Without
    one, a limit counts purchases in the last minute, or calls in flight.
    """

    name: str
    field: str
    unit: Unit
    period: Period | None = None

    @property
    def scale(self) -> int:
        """The factor between the public unit and the one that is counted."""
        return MICRO if self.unit == "usd" else 1


BUDGETS: Mapping[Period, Sequence[LimitKind]] = {
    "day": (
        LimitKind("images_per_day", "images_per_day", "images", "day"),
        LimitKind("cost_per_day_usd", "cost_per_day", "usd", "day"),
    ),
    "month": (
        LimitKind("images_per_month", "images_per_month", "images", "month"),
        LimitKind("cost_per_month_usd", "cost_per_month", "usd", "month"),
    ),
}
REQUESTS_PER_MINUTE = LimitKind("requests_per_minute", "requests_per_minute", "requests")
CONCURRENT_REQUESTS = LimitKind("concurrent_requests", "concurrent_requests", "calls")
KINDS = (*chain(*BUDGETS.values()), REQUESTS_PER_MINUTE, CONCURRENT_REQUESTS)


class LimitState(Struct, frozen=True):
    """One limit at one moment. `size`, `used` and `held` are in the unit of its kind.

    `resets_at` is when all of the limit is free again. It is None if nothing is used, and for
    calls in flight, because nobody knows when they end.
    """

    kind: LimitKind
    size: int
    used: int
    held: int
    resets_at: float | None

    @property
    def name(self) -> str:
        """The name of the limit."""
        return self.kind.name

    @property
    def remaining(self) -> int:
        """The room for a further request: 0 if the limit was lowered below its usage."""
        return max(0, self.size - self.used - self.held)


def set_limits(limits: Limits) -> list[LimitKind]:
    """Return the kinds of the limits that are set."""
    return [kind for kind in KINDS if getattr(limits, kind.field) is not None]


def limit_states(account: Account, limits: Limits, now: float) -> Iterator[LimitState]:
    """Return the state of each limit that is set, for an account or a key's part of one."""
    yield from budget_states(account, limits, now)
    if (size := limits.requests_per_minute) is not None:
        minute = account.minute_at(now)
        used = sum(count for _, count in minute)
        resets_at = float(minute[-1][0] + MINUTE_BUCKETS) if minute else None
        yield LimitState(REQUESTS_PER_MINUTE, size, used, 0, resets_at)
    if (size := limits.concurrent_requests) is not None:
        yield LimitState(CONCURRENT_REQUESTS, size, 0, len(account.holds), None)


def budget_states(counters: Counters, limits: Limits, now: float) -> Iterator[LimitState]:
    """Return the state of each budget that is set."""
    for period, calendar in CALENDARS.items():
        number = calendar.number_of(now)
        usage: PeriodUsage = getattr(counters, period).roll(number)
        for kind in BUDGETS[period]:
            size: int | None = getattr(limits, kind.field)
            if size is not None:
                money = kind.unit == "usd"
                used = usage.cost if money else usage.images
                held = usage.held_cost if money else usage.held_images
                yield LimitState(kind, size, used, held, calendar.end_of(number))


def minute_wait(account: Account, limit: int, now: float) -> float | None:
    """Return the seconds until the minute has room for one more purchase, at most 60.

    Returns None if it has room now.
    """
    buckets = account.minute_at(now)
    over = sum(count for _, count in buckets) - limit + 1
    if over <= 0:
        return None
    for second, count in buckets:
        over -= count
        if over <= 0:
            return min(60.0, second + MINUTE_BUCKETS - now)
    return 60.0
