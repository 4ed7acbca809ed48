"""What is left of the limits of a team and its key, as the x-ratelimit headers tell it."""

from collections.abc import Iterable

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
    """The tightest limit of purchases a minute, and of images. None: there is no such limit."""

    requests: Meter | None = None
    images: Meter | None = None


def standing(owners: Iterable[tuple[Account, Limits]], now: float) -> Standing:
    """The standing under all limits of `owners`: each one's account, or its part of one.

    Open holds count as used.
    """
    owners = list(owners)
    requests = [_requests(account, limits, now) for account, limits in owners]
    images = [meter for account, limits in owners for meter in _images(account, limits, now)]
    return Standing(_tightest(requests), _tightest(images))


def _tightest(meters: Iterable[Meter | None]) -> Meter | None:
    """The one with least left; of two alike the later to be whole."""
    set_ones = [meter for meter in meters if meter is not None]
    return min(set_ones, key=lambda meter: (meter.remaining, -meter.reset), default=None)


def _requests(account: Account, limits: Limits, now: float) -> Meter | None:
    limit = limits.requests_per_minute
    if limit is None:
        return None
    minute = account.minute_at(now)
    used = sum(count for _, count in minute)
    reset = minute[-1][0] + MINUTE_BUCKETS - now if minute else 0.0
    return Meter(limit, max(0, limit - used), reset)


def _images(account: Account, limits: Limits, now: float) -> list[Meter]:
    day, month = day_of(now), month_of(now)
    return [
        Meter(limit, max(0, limit - window.images - window.held_images), end - now)
        for limit, window, end in (
            (limits.images_per_day, account.day.roll(day), end_of_day(day)),
            (limits.images_per_month, account.month.roll(month), end_of_month(month)),
        )
        if limit is not None
    ]
