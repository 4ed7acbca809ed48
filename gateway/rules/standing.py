"""What is left of a team's limits, as the x-ratelimit headers tell it."""

from msgspec import Struct

from gateway.model import Limits
from gateway.rules.account import MINUTE_BUCKETS, Account
from gateway.rules.windows import day_of, end_of_day, end_of_month, month_of


class Meter(Struct, frozen=True):
    """One limit as it stands: its size, what is left of it, and the seconds until it is whole."""

    limit: int
    remaining: int
    reset: float


class Standing(Struct, frozen=True):
    """The team's purchases a minute, and the tightest of its image limits. None: no such limit."""

    requests: Meter | None = None
    images: Meter | None = None


def standing(account: Account, limits: Limits, now: float) -> Standing:
    """The standing of a team whose account is `account`; open holds count as used."""
    return Standing(_requests(account, limits, now), _images(account, limits, now))


def _requests(account: Account, limits: Limits, now: float) -> Meter | None:
    limit = limits.requests_per_minute
    if limit is None:
        return None
    minute = account.minute_at(now)
    used = sum(count for _, count in minute)
    reset = minute[-1][0] + MINUTE_BUCKETS - now if minute else 0.0
    return Meter(limit, max(0, limit - used), reset)


def _images(account: Account, limits: Limits, now: float) -> Meter | None:
    day, month = day_of(now), month_of(now)
    meters = [
        Meter(limit, max(0, limit - window.images - window.held_images), end - now)
        for limit, window, end in (
            (limits.images_per_day, account.day.roll(day), end_of_day(day)),
            (limits.images_per_month, account.month.roll(month), end_of_month(month)),
        )
        if limit is not None
    ]
    return min(meters, key=lambda meter: (meter.remaining, -meter.reset), default=None)
