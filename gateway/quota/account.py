"""The quota state of a team and its keys, as one small frozen value.

The account of the gateway itself has the same type and only uses the counters. A store keeps an
account as bytes and compares versions. The rules are in `gateway.quota.steps`.
"""

from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.periods import PeriodUsage, day_of, month_of

GATEWAY = "gateway"
"""The name of the gateway's own account."""

MINUTE_BUCKETS = 61
"""The one-second counts that a minute can touch. With 60 of them, a reservation at 0.9 s could meet
one at 60.1 s, less than 60 s later."""

MEMORY_SECONDS = 86_400
"""How long a swept hold is remembered for an outcome that arrives late."""


Minute = tuple[tuple[int, int], ...]
"""Seconds and their numbers of purchases, oldest first."""


def team_account(team: str) -> str:
    """Return the name of a team's account in the store."""
    return f"team:{team}"


class Hold(Struct, frozen=True, array_like=True):
    """An admitted purchase without an outcome yet, with the fields of its usage entry.

    It may be swept after `lease`: the deadline of the upstream call and a little more. `key` is
    the line of the key. `in_gateway` and `in_key` mean that the gateway's account and the key's
    own counters hold the purchase too. `request` is the id of the request, "" if the purchase has
    the same id, None if an older gateway left it out.
    """

    at: float
    lease: float
    key: str
    model: str
    size: str
    quality: str
    images: int
    cost: int
    in_gateway: bool
    in_key: bool = False
    request: str | None = None


class Counters(Struct, frozen=True, array_like=True):
    """The usage of each period, and the purchases of each second, of a team or a key."""

    day: PeriodUsage = PeriodUsage()
    month: PeriodUsage = PeriodUsage()
    minute: Minute = ()

    def minute_at(self, now: float) -> Minute:
        """Return the one-second counts that still matter at `now`, oldest first."""
        return _recent(self.minute, now)

    def is_over(self, now: float) -> bool:
        """Whether nothing in the counters matters at `now`. The end of a month also ends a day."""
        return self.month.period < month_of(now) and not self.minute_at(now)


NOTHING = Counters()

C = TypeVar("C", bound=Counters)


class Account(Counters, frozen=True, array_like=True):
    """A team's counters, its open holds by reservation id, its swept holds, its keys' counters.

    Keys are identified by their line. Only keys with limits have counters, and only as long as
    the counters matter.
    """

    holds: dict[str, Hold] = {}
    swept: dict[str, Hold] = {}
    keys: dict[str, Counters] = {}

    @property
    def earliest_lease(self) -> float | None:
        """When the first open hold may be swept, or None without holds."""
        return min((hold.lease for hold in self.holds.values()), default=None)

    def of_key(self, line: str) -> "Account":
        """Return the part of the account that the limits of a key apply to."""
        counters = self.keys.get(line, NOTHING)
        holds = {id: hold for id, hold in self.holds.items() if hold.key == line}
        return Account(counters.day, counters.month, counters.minute, holds)


EMPTY = Account()


# -- a hold in counters -------------------------------------------------------------------------


def count_hold(counters: C, hold: Hold, now: float) -> C:
    """Add a hold, and its second to those of the last minute."""
    minute = _recent(_with_second(counters.minute, int(hold.at)), now)
    return replace(add_hold(counters, hold), minute=minute)


def add_hold(counters: C, hold: Hold) -> C:
    """Add a hold."""
    return _in_each_period(
        counters,
        hold,
        lambda usage, period: usage.roll(period).hold(period, hold.images, hold.cost),
    )


def charge_hold(counters: C, hold: Hold, images: int, cost: int) -> C:
    """Turn a hold into a charge, in the periods of its reservation."""
    return _in_each_period(
        counters,
        hold,
        lambda usage, period: usage.hold(period, -hold.images, -hold.cost).spend(
            period, images, cost
        ),
    )


def recharge_hold(counters: C, hold: Hold, images: int, cost: int) -> C:
    """Replace the unknown charge of a swept hold with the real one."""
    images, cost = images - hold.images, cost - hold.cost
    return _in_each_period(counters, hold, lambda usage, period: usage.spend(period, images, cost))


def _in_each_period(
    counters: C, hold: Hold, change: Callable[[PeriodUsage, int], PeriodUsage]
) -> C:
    """Apply a change to the usage of each period, with the period of the reservation."""
    return replace(
        counters,
        day=change(counters.day, day_of(hold.at)),
        month=change(counters.month, month_of(hold.at)),
    )


def _recent(minute: Minute, now: float) -> Minute:
    first = int(now) - MINUTE_BUCKETS + 1
    if not minute or minute[0][0] >= first:
        return minute
    return tuple(bucket for bucket in minute if bucket[0] >= first)


def _with_second(minute: Minute, second: int) -> Minute:
    if minute and minute[-1][0] > second:  # a purchase that the store had lost
        counts = dict(minute)
        return tuple(sorted({**counts, second: counts.get(second, 0) + 1}.items()))
    if minute and minute[-1][0] == second:
        return (*minute[:-1], (second, minute[-1][1] + 1))
    return (*minute, (second, 1))
