"""The tightest limits, as the rate-limit headers show them."""

import pytest

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account
from gateway.quota.status import Meter, RateLimitStatus, rate_limit_status
from tests.support.quota_steps import NOON

DAY, MONTH = day_of(NOON), month_of(NOON)
UNTIL_DAY, UNTIL_MONTH = end_of_day(DAY) - NOON, end_of_month(MONTH) - NOON
BOTH = Limits(images_per_day=10, images_per_month=100)
FAST = Limits(images_per_day=10, requests_per_minute=5)


def account(
    day: int = 0, month: int = 0, held: int = 0, minute: tuple[tuple[int, int], ...] = ()
) -> Account:
    """Return an account with this usage of images, and purchases by seconds since noon."""
    seconds = tuple((int(NOON) + at, count) for at, count in minute)
    today = PeriodUsage(DAY, images=day, held_images=held)
    return Account(today, PeriodUsage(MONTH, images=month), seconds)


@pytest.mark.parametrize(
    ("state", "limits", "requests", "images"),
    [
        # other limits
        (EMPTY, Limits(cost_per_day=1, concurrent_requests=1), None, None),
        # nothing is used
        (EMPTY, FAST, Meter(5, 5, 0.0), Meter(10, 10, UNTIL_DAY)),
        # holds count as used
        (account(3, held=4), BOTH, None, Meter(10, 3, UNTIL_DAY)),
        # more than all is used
        (account(12, minute=((0, 9),)), FAST, Meter(5, 0, 61.0), Meter(10, 0, UNTIL_DAY)),
        # the tighter of two
        (account(3, 99), BOTH, None, Meter(100, 1, UNTIL_MONTH)),
        (account(3, 3), BOTH, None, Meter(10, 7, UNTIL_DAY)),
        # of two equally tight, the one that resets later
        (account(10, 100), BOTH, None, Meter(100, 0, UNTIL_MONTH)),
        # yesterday, and more than a minute ago
        (
            Account(PeriodUsage(DAY - 1, images=10), minute=((int(NOON) - 61, 3),)),
            FAST,
            Meter(5, 5, 0.0),
            Meter(10, 10, UNTIL_DAY),
        ),
    ],
)
def test_the_tightest_limit(
    state: Account, limits: Limits, requests: Meter | None, images: Meter | None
) -> None:
    assert rate_limit_status([(state, limits)], NOON) == RateLimitStatus(requests, images)


@pytest.mark.parametrize(
    ("seconds", "meter"),
    [(0.0, Meter(5, 2, 52.0)), (52.0, Meter(5, 5, 0.0)), (51.5, Meter(5, 3, 0.5))],
)
def test_the_minute_is_free_again_61_seconds_after_its_last_purchase(
    seconds: float, meter: Meter
) -> None:
    owner = (account(minute=((-60, 1), (-9, 2))), FAST)
    assert rate_limit_status([owner], NOON + seconds).requests == meter


def test_the_tighter_of_team_and_key() -> None:
    team, key = account(3, minute=((0, 4),)), account(1, minute=((-9, 1),))
    wide = Limits(images_per_day=10, requests_per_minute=9)
    narrow = Limits(images_per_month=5, requests_per_minute=2)
    for owners, expected in (
        (
            [(team, wide), (key, narrow)],
            RateLimitStatus(Meter(2, 1, 52.0), Meter(5, 5, UNTIL_MONTH)),
        ),
        (
            [(team, narrow), (key, wide)],
            RateLimitStatus(Meter(2, 0, 61.0), Meter(5, 5, UNTIL_MONTH)),
        ),
        (
            [(team, Limits()), (key, Limits(images_per_day=2))],
            RateLimitStatus(None, Meter(2, 1, UNTIL_DAY)),
        ),
    ):
        assert rate_limit_status(owners, NOON) == expected
