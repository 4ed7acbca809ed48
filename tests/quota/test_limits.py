import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.periods import Window, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account, Hold
from gateway.quota.limits import RETRY_SECONDS, Refusal, Shortfall, first_refusal, minute_wait
from tests.support.quota_steps import NOON

DAY, MONTH = day_of(NOON), month_of(NOON)
END_OF_DAY, END_OF_MONTH = end_of_day(DAY), end_of_month(MONTH)
DOLLAR = 1_000_000


def account(
    day: tuple[int, ...] = (),
    month: tuple[int, ...] = (),
    minute: tuple[tuple[int, int], ...] = (),
    holds: int = 0,
) -> Account:
    """An account with windows (images, cost, held images, held cost) and so many open holds."""
    hold = Hold(NOON, NOON + 300, "k1", "m", "s", "q", 1, 5, False)
    return Account(
        Window(DAY, *day), Window(MONTH, *month), minute, {str(i): hold for i in range(holds)}
    )


def refusal(
    team: Account, images: int = 1, cost: int = 0, now: float = NOON, **limits: int
) -> Refusal | None:
    return first_refusal([("team", "red", team, Limits(**limits))], images, cost, now)


def test_no_limit_never_refuses() -> None:
    full = account((10**9,) * 4, (10**9,) * 4, ((int(NOON), 10**6),), 100)
    assert refusal(full, 10**9, 10**18) is None


@pytest.mark.parametrize(
    ("state", "limits"),
    [
        ({"day": (3, 0, 4, 0)}, {"images_per_day": 10}),
        ({"month": (3, 0, 4, 0)}, {"images_per_month": 10}),
        ({"day": (0, 30, 0, 40)}, {"cost_per_day": 100}),
        ({"month": (0, 30, 0, 40)}, {"cost_per_month": 100}),
    ],
)
def test_a_budget_admits_up_to_its_last_unit(state: Any, limits: Any) -> None:
    team = account(**state)
    assert refusal(team, 3, 30, **limits) is None
    assert refusal(team, 4, 31, **limits) is not None


def test_a_budget_of_a_former_period_is_over() -> None:
    old = Account(Window(DAY - 1, 10, 10, 10, 10), Window(MONTH - 1, 10, 10, 10, 10))
    limits = {"images_per_day": 1, "images_per_month": 1, "cost_per_day": 1, "cost_per_month": 1}
    assert refusal(old, 1, 1, **limits) is None


@pytest.mark.parametrize(
    ("state", "limits", "name", "resets_at"),
    [
        ({"day": (10,)}, {"images_per_day": 10}, "images_per_day", END_OF_DAY),
        ({"day": (0, 0, 10)}, {"images_per_day": 10}, "images_per_day", END_OF_DAY),
        ({"month": (10,)}, {"images_per_month": 10}, "images_per_month", END_OF_MONTH),
        ({"day": (0, 90)}, {"cost_per_day": 100}, "cost_per_day_usd", END_OF_DAY),
        ({"month": (0, 90)}, {"cost_per_month": 100}, "cost_per_month_usd", END_OF_MONTH),
    ],
)
def test_a_used_up_budget_opens_with_the_next_period(
    state: Any, limits: Any, name: str, resets_at: float
) -> None:
    (size,) = limits.values()
    found = refusal(account(**state), 1, 20, **limits)
    assert found is not None
    assert replace(found, shortfall=None) == Refusal(
        scope="team", owner="red", limit=name, size=size, resets_at=resets_at
    )


def test_a_refusal_tells_what_is_used_held_and_asked_for() -> None:
    team = account((5, 50, 2, 20), (7, 70, 3, 30))
    for limits, shortfall in (
        ({"images_per_day": 10}, Shortfall(5, 2, 4, END_OF_DAY)),
        ({"images_per_month": 10}, Shortfall(7, 3, 4, END_OF_MONTH)),
        ({"cost_per_day": 100}, Shortfall(50, 20, 40, END_OF_DAY)),
        ({"cost_per_month": 100}, Shortfall(70, 30, 40, END_OF_MONTH)),
    ):
        found = refusal(team, 4, 40, **limits)
        assert found is not None
        assert found.shortfall == shortfall


@pytest.mark.parametrize(
    ("state", "limits"),
    [
        ({"day": (0, 50, 0, 40)}, {"cost_per_day": 100}),
        ({"month": (0, 0, 0, 100)}, {"cost_per_month": 100}),
        ({"holds": 3}, {"concurrent_requests": 3}),
    ],
)
def test_what_only_open_calls_occupy_is_waited_for(state: Any, limits: Any) -> None:
    found = refusal(account(**state), 1, 20, **limits)
    assert found is not None
    assert (found.wait, found.resets_at) == (RETRY_SECONDS, None)


@pytest.mark.parametrize(
    "limits",
    [
        {"images_per_day": 3},
        {"images_per_month": 0},
        {"cost_per_day": 39},
        {"cost_per_month": 0},
        {"requests_per_minute": 0},
        {"concurrent_requests": 0},
    ],
)
def test_a_request_above_a_limit_by_itself_never_opens(limits: Any) -> None:
    for team in (EMPTY, account((9, 9, 9, 9), (9, 9, 9, 9), ((int(NOON), 9),), 9)):
        found = refusal(team, 4, 40, **limits)
        assert found is not None
        assert (found.wait, found.resets_at) == (None, None)


def test_concurrency_counts_every_open_hold_whatever_its_day() -> None:
    assert refusal(account(holds=2), now=NOON + 86_400, concurrent_requests=3) is None
    assert refusal(account(holds=3), now=NOON + 86_400, concurrent_requests=3) is not None


# -- which one decides --------------------------------------------------------------------------

# From the mildest to the hardest: the name, and the account and limits that bring it about.
LADDER: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("requests_per_minute", {"minute": ((int(NOON) - 58, 1),)}, {"requests_per_minute": 1}),
    ("concurrent_requests", {"holds": 1}, {"concurrent_requests": 1}),
    ("images_per_day", {"day": (10,)}, {"images_per_day": 10}),
    ("cost_per_month_usd", {"month": (0, 90)}, {"cost_per_month": 100}),
    ("cost_per_day_usd", {}, {"cost_per_day": 19}),
]


@pytest.mark.parametrize(("low", "high"), [*itertools.combinations(range(len(LADDER)), 2)])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_harder_refusal_is_told(low: int, high: int, swapped: bool) -> None:
    team, gateway = [LADDER[index] for index in ((high, low) if swapped else (low, high))]
    owners = [
        ("team", "red", account(**team[1]), Limits(**team[2])),
        ("gateway", "", account(**gateway[1]), Limits(**gateway[2])),
    ]
    found = first_refusal(owners, 1, 20, NOON)  # type: ignore[arg-type]
    assert found is not None
    assert found.limit == LADDER[high][0]
    assert found.scope == ("team" if swapped else "gateway")


def test_the_longer_of_two_waits_is_told() -> None:
    team = account(minute=((int(NOON) - 10, 1),), holds=1)
    found = refusal(team, requests_per_minute=1, concurrent_requests=1)
    assert found is not None
    assert (found.limit, found.wait) == ("requests_per_minute", 51.0)


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


@given(st.lists(st.floats(0, 200, allow_nan=False), max_size=80), st.integers(1, 6))
def test_no_sixty_seconds_see_more_than_the_limit(offsets: list[float], limit: int) -> None:
    admitted: list[float] = []
    team = EMPTY
    for now in sorted(NOON + offset for offset in offsets):
        if minute_wait(team, limit, now) is None:
            admitted.append(now)
            seconds = [int(at) for at in admitted]
            team = Account(minute=tuple((at, seconds.count(at)) for at in sorted({*seconds})))
    for first in admitted:
        assert sum(first <= at < first + 60 for at in admitted) <= limit
