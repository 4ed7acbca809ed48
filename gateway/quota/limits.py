"""The kinds of limits, and how much of each limit is used.

`KINDS` is the only list of the kinds. Refusals, rate-limit headers, reports, metrics and alerts
all go over `limit_states`, so a new budget needs a row here and its field in `Limits`.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Literal

from msgspec import Struct

from gateway.core.model import Limits
from gateway.core.money import MICRO
from gateway.core.periods import CALENDARS, Period
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


BUDGETS = (
    LimitKind("images_per_day", "images_per_day", "images", "day"),
    LimitKind("cost_per_day_usd", "cost_per_day", "usd", "day"),
    LimitKind("images_per_month", "images_per_month", "images", "month"),
    LimitKind("cost_per_month_usd", "cost_per_month", "usd", "month"),
)
REQUESTS_PER_MINUTE = LimitKind("requests_per_minute", "requests_per_minute", "requests")
CONCURRENT_REQUESTS = LimitKind("concurrent_requests", "concurrent_requests", "calls")
KINDS = (*BUDGETS, REQUESTS_PER_MINUTE, CONCURRENT_REQUESTS)

_AMOUNTS = {
    "images": attrgetter("images", "held_images"),
    "usd": attrgetter("cost", "held_cost"),
}
_BUDGET_READERS = [
    (
        kind,
        attrgetter(kind.field),
        attrgetter(kind.period),
        _AMOUNTS[kind.unit],
        CALENDARS[kind.period],
    )
    for kind in BUDGETS
    if kind.period is not None
]
"""For each budget: its size in `Limits`, its period in `Counters`, and the amounts of a period."""


class LimitState(Struct, frozen=True):
    """One limit at one moment. `size`, `used` and `held` are in the unit of its kind.

    `resets_at` is when all of the limit is free again. It is None for a minute without purchases,
    and for calls in flight, because nobody knows when they end.
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


def limit_states(account: Account, limits: Limits, now: float) -> list[LimitState]:
    """Return the state of each limit that is set, for an account or a key's part of one."""
    states = budget_states(account, limits, now)
    if (size := limits.requests_per_minute) is not None:
        minute = account.minute_at(now)
        used = sum([count for _, count in minute])
        resets_at = float(minute[-1][0] + MINUTE_BUCKETS) if minute else None
        states.append(LimitState(REQUESTS_PER_MINUTE, size, used, 0, resets_at))
    if (size := limits.concurrent_requests) is not None:
        states.append(LimitState(CONCURRENT_REQUESTS, size, 0, len(account.holds), None))
    return states


def budget_states(counters: Counters, limits: Limits, now: float) -> list[LimitState]:
    """Return the state of each budget that is set."""
    # A list, not a generator: every reservation reads it twice, and a list takes half the time.
    states = []
    for kind, limit_of, usage_of, amounts_of, calendar in _BUDGET_READERS:
        size = limit_of(limits)
        if size is not None:
            number = calendar.number_of(now)
            used, held = amounts_of(usage_of(counters).roll(number))
            states.append(LimitState(kind, size, used, held, calendar.end_of(number)))
    return states


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


# -- rate-limit headers ---------------------------------------------------------------------------


class Meter(Struct, frozen=True):
    """One limit: its size, what remains of it, and the seconds until it is free again."""

    limit: int
    remaining: int
    reset: float


class RateLimitStatus(Struct, frozen=True):
    """The tightest limit of purchases a minute, and of images. None if there is no such limit."""

    requests: Meter | None = None
    images: Meter | None = None


def rate_limit_status(owners: Iterable[tuple[Account, Limits]], now: float) -> RateLimitStatus:
    """Return the status under the limits of all owners. Held images count as used."""
    states = [state for owner in owners for state in limit_states(*owner, now)]
    return RateLimitStatus(_tightest(states, "requests", now), _tightest(states, "images", now))


def _tightest(states: Iterable[LimitState], unit: Unit, now: float) -> Meter | None:
    """Return the limit with the least left. Of two alike, it is the one that resets later."""
    meters = [
        Meter(state.size, state.remaining, (state.resets_at or now) - now)
        for state in states
        if state.kind.unit == unit
    ]
    return min(meters, key=lambda meter: (meter.remaining, -meter.reset), default=None)
