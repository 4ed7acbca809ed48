"""How limits stand: used, held, remaining, and when they are whole again."""

from gateway.core.model import Limits
from gateway.core.periods import Window, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account, Hold
from gateway.quota.status import LimitState, limit_states
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
    Window(DAY, 3, 100, 2, 30),
    Window(MONTH, 7, 900, 2, 30),
    ((int(NOON) - 100, 4), (int(NOON) - 1, 2)),
    holds={"h1": HOLD},
)


def told(account: Account, limits: Limits = ALL, now: float = NOON) -> dict[str, LimitState]:
    return {state.name: state for state in limit_states(account, limits, now)}


def numbers(state: LimitState) -> tuple[int, int, int, int, float | None]:
    return state.size, state.used, state.held, state.remaining, state.resets_at


def test_only_limits_that_are_set_are_told() -> None:
    assert limit_states(BUSY, Limits(), NOON) == []
    assert list(told(BUSY, Limits(cost_per_day=1))) == ["cost_per_day_usd"]


def test_every_limit_with_what_is_used_and_held() -> None:
    found = {name: numbers(state) for name, state in told(BUSY).items()}
    assert found == {
        "images_per_day": (10, 3, 2, 5, end_of_day(DAY)),
        "cost_per_day_usd": (1_000, 100, 30, 870, end_of_day(DAY)),
        "images_per_month": (20, 7, 2, 11, end_of_month(MONTH)),
        "cost_per_month_usd": (2_000, 900, 30, 1_070, end_of_month(MONTH)),
        "requests_per_minute": (5, 2, 0, 3, int(NOON) - 1 + 61.0),
        "concurrent_requests": (2, 0, 1, 1, None),
    }


def test_a_new_day_begins_with_all_of_it() -> None:
    tomorrow = told(BUSY, now=end_of_day(DAY))
    assert numbers(tomorrow["images_per_day"]) == (10, 0, 0, 10, end_of_day(DAY + 1))
    assert numbers(tomorrow["requests_per_minute"]) == (5, 0, 0, 5, None)


def test_a_limit_below_what_is_used_leaves_nothing() -> None:
    (state,) = limit_states(BUSY, Limits(images_per_day=1), NOON)
    assert (state.used, state.remaining) == (3, 0)
    (state,) = limit_states(EMPTY, Limits(images_per_day=0), NOON)
    assert state.remaining == 0
