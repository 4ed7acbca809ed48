"""The state of each limit, the wait of the minute, and the tightest limits for the headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account, Hold
from gateway.quota.limits import (
    KINDS,
    LimitState,
    Meter,
    RateLimitStatus,
    limit_states,
    minute_wait,
    rate_limit_status,
    set_limits,
)
from tests.support.quota_steps import NOON

DAY, MONTH = day_of(NOON), month_of(NOON)
ALL = Limits(
    images_per_day=10,
    images_per_month=20,
    cost_per_day=1_000,
    cost_per_month=2_000,
    requests_per_minute=5,
    concurrent_requests=2,
)
HOLD = Hold(NOON, NOON + 60, "k1", "m", "s", "q", 2, 30, False)
BUSY = Account(
    PeriodUsage(DAY, 3, 100, 2, 30),
    PeriodUsage(MONTH, 7, 900, 2, 30),
    ((int(NOON) - 100, 4), (int(NOON) - 1, 2)),
    holds={"h1": HOLD},
)


def states(account: Account, limits: Limits = ALL, now: float = NOON) -> dict[str, LimitState]:
    return {state.name: state for state in limit_states(account, limits, now)}


def numbers(state: LimitState) -> tuple[int, int, int, int, float | None]:
    return state.size, state.used, state.held, state.remaining, state.resets_at


def test_every_limit_has_a_kind() -> None:
    assert {kind.field for kind in KINDS} == set(Limits.__struct_fields__)
    assert set_limits(ALL) == list(KINDS)


def test_only_limits_that_are_set_have_a_state() -> None:
    assert states(BUSY, Limits()) == {}
    assert list(states(BUSY, Limits(cost_per_day=1))) == ["cost_per_day_usd"]


def test_each_limit_counts_usage_and_holds() -> None:
    found = {name: numbers(state) for name, state in states(BUSY).items()}
    assert found == {
        "images_per_day": (10, 3, 2, 5, end_of_day(DAY)),
        "cost_per_day_usd": (1_000, 100, 30, 870, end_of_day(DAY)),
        "images_per_month": (20, 7, 2, 11, end_of_month(MONTH)),
        "cost_per_month_usd": (2_000, 900, 30, 1_070, end_of_month(MONTH)),
        "requests_per_minute": (5, 2, 0, 3, int(NOON) - 1 + 61.0),
        "concurrent_requests": (2, 0, 1, 1, None),
    }


# -- the wait of the minute ---------------------------------------------------------------------

times = st.floats(NOON, NOON + 100, allow_nan=False)
counts = st.dictionaries(st.integers(int(NOON) - 70, int(NOON) + 100), st.integers(1, 4))


@given(counts, times, st.integers(1, 12))
def test_the_wait_is_the_earliest_admission(
    seconds: dict[int, int], now: float, limit: int
) -> None:
    minute = tuple(sorted((at, count) for at, count in seconds.items() if at <= int(now)))
    team = Account(minute=minute)
    wait = minute_wait(team, limit, now)
    used = sum(count for at, count in minute if at > now - 60)
    if wait is None:
        assert used < limit
        return
    assert 0 < wait <= 60
    if wait < 60:
        assert minute_wait(team, limit, now + wait) is None
    else:
        assert minute_wait(team, limit, now + 61) is None
    assert minute_wait(team, limit, now + wait - 0.001) is not None


@given(counts, times)
def test_no_purchase_fits_into_a_minute_of_none(seconds: dict[int, int], now: float) -> None:
    minute = tuple(sorted((at, count) for at, count in seconds.items() if at <= int(now)))
    assert minute_wait(Account(minute=minute), 0, now) == 60.0


# -- rate-limit headers ---------------------------------------------------------------------------

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
    month = Meter(5, 5, UNTIL_MONTH)
    for owners, requests, images in (
        ([(team, wide), (key, narrow)], Meter(2, 1, 52.0), month),
        ([(team, narrow), (key, wide)], Meter(2, 0, 61.0), month),
        ([(team, Limits()), (key, Limits(images_per_day=2))], None, Meter(2, 1, UNTIL_DAY)),
    ):
        assert rate_limit_status(owners, NOON) == RateLimitStatus(requests, images)
