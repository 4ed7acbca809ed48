from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InsufficientQuota, RateLimited
from gateway.core.model import Limits
from gateway.core.periods import end_of_day, end_of_month
from gateway.quota.limits import Refusal, Shortfall
from gateway.quota.refusal import refusal_error
from tests.support.quota_steps import NOON, Bench, reserve

NAMES = (
    "images_per_day",
    "images_per_month",
    "cost_per_day_usd",
    "cost_per_month_usd",
    "requests_per_minute",
    "concurrent_requests",
)


def refusal(limit: str = "images_per_day", size: int = 100, **fields: Any) -> Refusal:
    values: dict[str, Any] = {"scope": "team", "owner": "red", **fields}
    return Refusal(limit=limit, size=size, **values)


def test_a_used_up_budget_says_whose_which_and_until_when() -> None:
    error = refusal_error(refusal(resets_at=1_772_409_600.0), 0.5, "k1")
    assert isinstance(error, InsufficientQuota)
    assert error.message == (
        "Team red's images_per_day limit of 100 is used up; it resets at 2026-03-02T00:00:00Z."
    )
    assert error.headers == {"x-should-retry": "false"}
    assert (error.status, error.type, error.code) == (429,) + ("insufficient_quota",) * 2


def test_the_gateways_own_limit_names_no_team() -> None:
    error = refusal_error(refusal(scope="gateway", owner="", resets_at=1_772_409_600.0), 0, "k1")
    assert error.message.startswith("The gateway's images_per_day limit of 100 is used up")


def test_a_keys_own_limit_names_the_key_that_asked() -> None:
    own = refusal(scope="key", owner="line1", resets_at=1_772_409_600.0)
    for reached in (
        own,
        refusal(scope="key", owner="line1"),
        refusal("requests_per_minute", scope="key", owner="line1", wait=5.0),
    ):
        error = refusal_error(reached, 0, "k1")
        assert error.message.startswith(f"Key sk-gw-k1's {reached.limit} limit of 100 is ")
        assert error.whose == ("key", "line1")
    assert refusal_error(refusal(), 0, "k1").whose == ("team", "red")
    assert refusal_error(refusal(scope="gateway", owner=""), 0, "k1").whose is None


def short(used: int, held: int, asked: int) -> Shortfall:
    return Shortfall(used, held, asked, 1_772_409_600.0)


def test_money_that_open_calls_hold_is_told_apart_from_what_is_used() -> None:
    reached = refusal(
        "cost_per_day_usd", 100_000, wait=10.0, shortfall=short(40_000, 40_000, 40_000)
    )
    assert refusal_error(reached, 0, "k1").message == (
        "Team red's cost_per_day_usd limit of 0.1 is reached for now (0.04 used, 0.04 held by open "
        "calls, this request may cost 0.04); try again in 10 seconds, or after it resets at "
        "2026-03-02T00:00:00Z."
    )


@pytest.mark.parametrize(
    ("shortfall", "state"),
    [
        (short(70_000, 0, 40_000), "has too little left for this request (0.07 used, 0 held"),
        (short(60_000, 40_000, 40_000), "is used up (0.06 used, 0.04 held"),
    ],
)
def test_a_budget_with_something_left_is_not_called_used_up(
    shortfall: Shortfall, state: str
) -> None:
    ends = shortfall.ends
    reached = refusal("cost_per_day_usd", 100_000, resets_at=ends, shortfall=shortfall)
    assert refusal_error(reached, 0, "k1").message == (
        f"Team red's cost_per_day_usd limit of 0.1 {state} by open calls, this request may cost "
        "0.04); it resets at 2026-03-02T00:00:00Z."
    )


@pytest.mark.parametrize(
    ("limit", "size", "asked", "text"),
    [
        ("cost_per_day_usd", 10_000, 40_000, "0.01 is smaller than this request, which may cost"),
        ("images_per_day", 3, 4, "3 is smaller than this request, which asks for"),
    ],
)
def test_a_request_above_the_limit_says_by_what(
    limit: str, size: int, asked: int, text: str
) -> None:
    above = refusal(limit, size, shortfall=short(0, 0, asked))
    amount = "0.04" if limit.endswith("_usd") else "4"
    assert refusal_error(above, 0, "k1").message == f"Team red's {limit} limit of {text} {amount}."


@pytest.mark.parametrize("when", [{"wait": 5.0}, {"resets_at": NOON}])
def test_the_gateways_own_limit_does_not_tell_what_other_teams_use(when: Any) -> None:
    reached = refusal(scope="gateway", owner="", shortfall=short(93, 7, 4), **when)
    message = refusal_error(reached, 0, "k1").message
    assert "(this request asks for 4)" in message
    assert "93" not in message


def test_money_is_told_in_dollars() -> None:
    error = refusal_error(refusal("cost_per_month_usd", 2_500_000, resets_at=NOON), 0, "k1")
    assert "cost_per_month_usd limit of 2.5 " in error.message


def test_a_request_above_the_limit_is_told_so() -> None:
    error = refusal_error(refusal(size=3), 0, "k1")
    assert isinstance(error, InsufficientQuota)
    assert error.message == "Team red's images_per_day limit of 3 is smaller than this request."
    assert "Retry-After" not in error.headers


def test_what_passes_is_to_be_tried_again() -> None:
    error = refusal_error(refusal("concurrent_requests", 4, wait=10.0), 0.5, "k1")
    assert isinstance(error, RateLimited)
    assert (error.status, error.type, error.code) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert error.headers == {"Retry-After": "11", "retry-after-ms": "11000"}
    assert error.message == (
        "Team red's concurrent_requests limit of 4 is reached for now; try again in 11 seconds."
    )


@given(st.floats(0.0001, 60), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_spread_upward_and_stays_within_a_minute(wait: float, spread: float) -> None:
    error = refusal_error(refusal("requests_per_minute", wait=wait), spread, "k1")
    assert isinstance(error, RateLimited)
    assert min(60.0, max(1.0, wait)) <= error.retry_after <= min(60.0, max(1.0, wait) * 1.2)
    assert 1 <= int(error.headers["Retry-After"]) <= 60
    assert 1000 <= int(error.headers["retry-after-ms"]) <= 60_000


@pytest.mark.parametrize("scope", ["team", "gateway"])
@pytest.mark.parametrize("limit", NAMES)
@pytest.mark.parametrize("when", [{}, {"wait": 5.0}, {"resets_at": NOON}])
def test_every_refusal_names_its_limit(scope: str, limit: str, when: Any) -> None:
    owner = "red" if scope == "team" else ""
    error = refusal_error(refusal(limit, 7_000_000, scope=scope, owner=owner, **when), 0.1, "k1")
    whose = "Team red's" if scope == "team" else "The gateway's"
    size = "7" if limit.endswith("_usd") else "7000000"
    assert error.message.startswith(f"{whose} {limit} limit of {size} ")


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        (Limits(images_per_day=5), end_of_day),
        (Limits(images_per_month=5), end_of_month),
        (Limits(cost_per_day=200_000), end_of_day),
        (Limits(cost_per_month=200_000), end_of_month),
    ],
)
def test_what_others_used_of_the_gateway_stays_untold(limits: Limits, end: Any) -> None:
    bench = Bench()
    bench.held(reserve("r1", "secretive", 5, gateway_limits=limits))
    refused = bench.refused(reserve("r2", "red", 1, gateway_limits=limits))
    error = refusal_error(refused.refusal, 0.3, "k1")
    assert error.message.startswith("The gateway's ")
    assert "secretive" not in error.message + str(error.headers)
