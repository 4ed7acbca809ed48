"""Which limit refuses, for how long, and how the caller reads it."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.errors import InsufficientQuota, LimitReached, RateLimited
from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import EMPTY, Account, Hold
from gateway.quota.limits import KINDS
from gateway.quota.refusal import (
    RETRY_SECONDS,
    LimitOwner,
    Refusal,
    Scope,
    first_refusal,
    refusal_error,
    refused_by,
)
from tests.support.quota_steps import NOON, Bench, reserve

DAY, MONTH = day_of(NOON), month_of(NOON)
END_OF_DAY, END_OF_MONTH = end_of_day(DAY), end_of_month(MONTH)
HOLD = Hold(NOON, NOON + 300, "k1", "m", "s", "q", 1, 5, False)


def account(
    day: tuple[int, ...] = (),
    month: tuple[int, ...] = (),
    minute: tuple[tuple[int, int], ...] = (),
    holds: int = 0,
) -> Account:
    """An account with this usage (images, cost, held images, held cost) and so many open holds."""
    open_holds = {str(i): HOLD for i in range(holds)}
    return Account(PeriodUsage(DAY, *day), PeriodUsage(MONTH, *month), minute, open_holds)


FULL = account((9, 9, 9, 9), (9, 9, 9, 9), ((int(NOON), 9),), 9)


def refusal(
    team: Account,
    images: int = 1,
    cost: int = 0,
    now: float = NOON,
    *,
    scope: Scope = "team",
    **limits: int,
) -> Refusal | None:
    owner = "" if scope == "gateway" else {"team": "red", "key": "line1"}[scope]
    return first_refusal([LimitOwner(scope, owner, team, Limits(**limits))], images, cost, now)


def error(team: Account, *numbers: int, **options: Any) -> LimitReached:
    found = refusal(team, *numbers, **options)
    assert found is not None
    return refusal_error(found, 0.5, "k1")


# -- which limit refuses, and for how long ------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "limits", "wait", "resets_at"),
    [
        ({"day": (10,)}, {"images_per_day": 10}, None, END_OF_DAY),
        ({"day": (0, 0, 10)}, {"images_per_day": 10}, None, END_OF_DAY),
        ({"month": (10,)}, {"images_per_month": 10}, None, END_OF_MONTH),
        ({"day": (0, 90)}, {"cost_per_day": 100}, None, END_OF_DAY),
        ({"month": (0, 90)}, {"cost_per_month": 100}, None, END_OF_MONTH),
        # money that only open calls hold may come back
        ({"day": (0, 80, 0, 10)}, {"cost_per_day": 100}, RETRY_SECONDS, None),
        ({"month": (0, 0, 0, 100)}, {"cost_per_month": 100}, RETRY_SECONDS, None),
        ({"holds": 3}, {"concurrent_requests": 3}, RETRY_SECONDS, None),
        ({"minute": ((int(NOON), 2),)}, {"requests_per_minute": 2}, 60.0, None),
    ],
)
def test_a_limit_refuses_until_it_has_room(
    state: Any, limits: Any, wait: float | None, resets_at: float | None
) -> None:
    found = refusal(account(**state), 1, 20, **limits)
    assert found is not None
    ((field, size),) = limits.items()
    assert (found.state.kind.field, found.state.size) == (field, size)
    assert (found.scope, found.owner) == ("team", "red")
    assert (found.wait, found.resets_at) == (wait, resets_at)


# The limit, its account and its size, from the shortest refusal to the longest.
LADDER: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("requests_per_minute", {"minute": ((int(NOON) - 58, 1),)}, {"requests_per_minute": 1}),
    ("concurrent_requests", {"holds": 1}, {"concurrent_requests": 1}),
    ("images_per_day", {"day": (10,)}, {"images_per_day": 10}),
    ("cost_per_month_usd", {"month": (0, 90)}, {"cost_per_month": 100}),
    ("cost_per_day_usd", {}, {"cost_per_day": 19}),
]


@pytest.mark.parametrize("low", range(len(LADDER) - 1))
@pytest.mark.parametrize("swapped", [False, True])
def test_the_longer_refusal_decides(low: int, swapped: bool) -> None:
    high = low + 1
    team, gateway = [LADDER[index] for index in ((high, low) if swapped else (low, high))]
    owners = [
        LimitOwner("team", "red", account(**team[1]), Limits(**team[2])),
        LimitOwner("gateway", "", account(**gateway[1]), Limits(**gateway[2])),
    ]
    found = first_refusal(owners, 1, 20, NOON)
    assert found is not None
    assert found.limit == LADDER[high][0]
    assert found.scope == ("team" if swapped else "gateway")


def test_the_longer_of_two_waits_decides() -> None:
    team = account(minute=((int(NOON) - 10, 1),), holds=1)
    found = refusal(team, requests_per_minute=1, concurrent_requests=1)
    assert found is not None
    assert (found.limit, found.wait) == ("requests_per_minute", 51.0)


# -- the error ----------------------------------------------------------------------------------

HELD = account((0, 40_000, 0, 40_000))
DAYS_END = "it resets at 2026-03-02T00:00:00Z."


@pytest.mark.parametrize(
    ("team", "asked", "limits", "message"),
    [
        (
            account((93, 0, 7)),
            (4, 0),
            {"images_per_day": 100},
            "images_per_day limit of 100 is used up (93 used, 7 reserved by open calls, this "
            f"request asks for 4); {DAYS_END}",
        ),
        (
            account((0, 70_000)),
            (1, 40_000),
            {"cost_per_day": 100_000},
            "cost_per_day_usd limit of 0.1 has too little left for this request (0.07 used, 0 "
            f"reserved by open calls, this request may cost 0.04); {DAYS_END}",
        ),
        (
            account((0, 70_000, 0, 30_000)),
            (1, 40_000),
            {"cost_per_day": 100_000},
            "cost_per_day_usd limit of 0.1 is used up (0.07 used, 0.03 reserved by open calls, "
            f"this request may cost 0.04); {DAYS_END}",
        ),
        (
            EMPTY,
            (1, 40_000),
            {"cost_per_day": 10_000},
            "cost_per_day_usd limit of 0.01 is smaller than this request, which may cost 0.04.",
        ),
        (
            EMPTY,
            (4, 0),
            {"images_per_day": 3},
            "images_per_day limit of 3 is smaller than this request, which asks for 4.",
        ),
        (
            EMPTY,
            (1, 0),
            {"requests_per_minute": 0},
            "requests_per_minute limit of 0 is smaller than this request.",
        ),
    ],
)
def test_a_lasting_refusal_names_the_limit_and_its_reset(
    team: Account, asked: tuple[int, int], limits: Any, message: str
) -> None:
    refused = error(team, *asked, **limits)
    assert isinstance(refused, InsufficientQuota)
    assert refused.message == f"Team red's {message}"
    assert refused.headers == {"x-should-retry": "false"}
    assert (refused.status, refused.type, refused.code) == (429, *("insufficient_quota",) * 2)


@pytest.mark.parametrize(
    ("team", "asked", "limits", "message"),
    [
        (
            account(holds=4),
            (1, 0),
            {"concurrent_requests": 4},
            "concurrent_requests limit of 4 is reached for now; try again in 11 seconds.",
        ),
        (
            HELD,
            (1, 40_000),
            {"cost_per_day": 100_000},
            "cost_per_day_usd limit of 0.1 is reached for now (0.04 used, 0.04 reserved by open "
            "calls, this request may cost 0.04); try again in 11 seconds, or after it resets at "
            "2026-03-02T00:00:00Z.",
        ),
    ],
)
def test_a_passing_refusal_has_a_retry_after(
    team: Account, asked: tuple[int, int], limits: Any, message: str
) -> None:
    refused = error(team, *asked, **limits)
    assert isinstance(refused, RateLimited)
    assert refused.message == f"Team red's {message}"
    assert refused.headers == {"Retry-After": "11", "retry-after-ms": "11000"}
    assert (refused.status, refused.type) == (429, "rate_limit_error")
    assert refused.code == "rate_limit_exceeded"


def test_a_full_minute_names_only_its_wait() -> None:
    refused = error(account(minute=((int(NOON), 1),)), requests_per_minute=1)
    reached = "Team red's requests_per_minute limit of 1 is reached for now"
    assert refused.message == f"{reached}; try again in 59 seconds."


@pytest.mark.parametrize(
    ("scope", "named", "whose"),
    [
        ("team", "Team red's", ("team", "red")),
        ("key", "Key sk-gw-k1's", ("key", "line1")),
        ("gateway", "The gateway's", None),
    ],
)
def test_every_refusal_names_its_owner_and_limit(scope: Scope, named: str, whose: Any) -> None:
    for team, kind in itertools.product((EMPTY, HELD, FULL), KINDS):
        for size in (0, 9, 50_000):
            found = refusal(team, 1, 20_000, scope=scope, **{kind.field: size})
            if found is not None:
                refused = refusal_error(found, 0, "k1")
                assert refused.message.startswith(f"{named} {kind.name} limit of ")
                assert refused.whose == whose
                by = refused.refused_by
                assert by is not None
                owner = {"team": "red", "key": "sk-gw-line1", "gateway": None}[scope]
                assert (by.scope, by.owner, by.limit) == (scope, owner, kind.name)


@pytest.mark.parametrize(
    ("team", "asked", "limits", "numbers"),
    [
        (account((93, 0, 7)), (4, 0), {"images_per_day": 100}, (100, 93, 7, 4, END_OF_DAY, None)),
        (
            HELD,
            (1, 40_000),
            {"cost_per_day": 110_000},
            ("0.11", "0.04", "0.04", "0.04", END_OF_DAY, RETRY_SECONDS),
        ),
        (account(holds=4), (1, 0), {"concurrent_requests": 4}, (4, 0, 4, 1, None, RETRY_SECONDS)),
        (
            account(minute=((int(NOON) - 10, 2),)),
            (1, 0),
            {"requests_per_minute": 2},
            (2, 2, 0, 1, NOON + 51, 51.0),
        ),
        (EMPTY, (4, 0), {"images_per_day": 3}, (3, 0, 0, 4, END_OF_DAY, None)),
    ],
)
def test_operators_see_how_a_limit_stood(
    team: Account, asked: tuple[int, int], limits: Any, numbers: tuple[object, ...]
) -> None:
    by = error(team, *asked, **limits).refused_by
    assert by is not None
    assert (by.size, by.used, by.held, by.asked, by.resets_at, by.wait_seconds) == numbers


def test_operators_see_a_wait_to_a_tenth_of_a_second() -> None:
    found = refusal(FULL, concurrent_requests=9)
    assert found is not None
    assert refused_by(replace(found, wait=12.34)).wait_seconds == 12.3


@pytest.mark.parametrize("limits", [{"images_per_day": 5}, {"cost_per_month": 200_000}])
@pytest.mark.parametrize("settled", [False, True])
def test_a_team_does_not_see_the_usage_of_others(limits: Any, settled: bool) -> None:
    bench, gateway = Bench(), Limits(**limits)
    held = reserve("r1", "secretive", 5, gateway_limits=gateway)
    at = bench.held(held).at
    if settled:
        bench.apply(held.settle(at, 5, 200_000))
    refused = refusal_error(
        bench.refused(reserve("r2", "red", 1, gateway_limits=gateway)).refusal, 0.3, "k1"
    )
    assert refused.message.startswith("The gateway's ")
    shown = refused.message + str(refused.headers)
    assert not any(secret in shown for secret in ("secretive", " used,", "held by"))
    by = refused.refused_by  # never sent to clients
    assert by is not None
    assert {str(by.used), str(by.held)} & {"5", "0.2"}
