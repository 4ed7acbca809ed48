"""How every limit of somebody stands: what is used, what open calls hold, what is left, until when.

Held images and money count as used for a further call, so they are not among what remains.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from gateway.core.model import Limits
from gateway.core.periods import day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import MINUTE_BUCKETS, Account, Counters


class LimitState(Struct, frozen=True, kw_only=True):
    """One limit. `size`, `used`, `held` and `remaining` count what it limits: images,
    micro-dollars (its name ends in _usd), purchases in a minute, or purchases under way.

    `resets_at` is when all of it is free again; None where nothing is used, and for calls under
    way, whose end nobody knows.
    """

    name: str
    size: int
    used: int
    held: int
    resets_at: float | None

    @property
    def remaining(self) -> int:
        """What is left: never below 0, also where a limit was lowered below what is used."""
        return max(0, self.size - self.used - self.held)


def limit_states(account: Account, limits: Limits, now: float) -> list[LimitState]:
    """The limits that are set, as they stand at `now` in the account, or part of one."""
    return [*budget_states(account, limits, now), *_pace(account, limits, now)]


def budget_states(account: Counters, limits: Limits, now: float) -> Iterator[LimitState]:
    """The limits of images and money that are set, as they stand at `now`."""
    day, month = day_of(now), month_of(now)
    spans = (
        ("day", account.day.roll(day), end_of_day(day)),
        ("month", account.month.roll(month), end_of_month(month)),
    )
    for span, window, ends in spans:
        images: int | None = getattr(limits, f"images_per_{span}")
        cost: int | None = getattr(limits, f"cost_per_{span}")
        if images is not None:
            yield _state(f"images_per_{span}", images, window.images, window.held_images, ends)
        if cost is not None:
            yield _state(f"cost_per_{span}_usd", cost, window.cost, window.held_cost, ends)


def _pace(account: Account, limits: Limits, now: float) -> Iterator[LimitState]:
    if limits.requests_per_minute is not None:
        minute = account.minute_at(now)
        resets_at = float(minute[-1][0] + MINUTE_BUCKETS) if minute else None
        used = sum(count for _, count in minute)
        yield _state("requests_per_minute", limits.requests_per_minute, used, 0, resets_at)
    if limits.concurrent_requests is not None:
        held = len(account.holds)
        yield _state("concurrent_requests", limits.concurrent_requests, 0, held, None)


def _state(name: str, size: int, used: int, held: int, resets_at: float | None) -> LimitState:
    return LimitState(name=name, size=size, used=used, held=held, resets_at=resets_at)


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
    requests = [_request_meter(account, limits, now) for account, limits in owners]
    images = [meter for account, limits in owners for meter in _image_meters(account, limits, now)]
    return Standing(_tightest(requests), _tightest(images))


def _tightest(meters: Iterable[Meter | None]) -> Meter | None:
    """The one with least left; of two alike the later to be whole."""
    set_ones = [meter for meter in meters if meter is not None]
    return min(set_ones, key=lambda meter: (meter.remaining, -meter.reset), default=None)


def _request_meter(account: Account, limits: Limits, now: float) -> Meter | None:
    limit = limits.requests_per_minute
    if limit is None:
        return None
    minute = account.minute_at(now)
    used = sum(count for _, count in minute)
    reset = minute[-1][0] + MINUTE_BUCKETS - now if minute else 0.0
    return Meter(limit, max(0, limit - used), reset)


def _image_meters(account: Account, limits: Limits, now: float) -> list[Meter]:
    day, month = day_of(now), month_of(now)
    return [
        Meter(limit, max(0, limit - window.images - window.held_images), end - now)
        for limit, window, end in (
            (limits.images_per_day, account.day.roll(day), end_of_day(day)),
            (limits.images_per_month, account.month.roll(month), end_of_month(month)),
        )
        if limit is not None
    ]
