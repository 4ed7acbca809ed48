"""Settlements of purchases that the store has lost: it came back with an older state."""

import pytest

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.steps import LOST_SECONDS, Expire, Settle
from tests.support.quota_steps import NOON, Bench, release, reserve

RED = team_account("red")


@pytest.fixture
def bench() -> Bench:
    """A bench whose red team has bought an image, which the store remembers."""
    bench = Bench()
    bench.held(reserve("old"))
    bench.settle(reserve("old").settle(NOON, 1, 40_000))
    return bench


def lose(bench: Bench, step: Settle) -> None:
    """Settle a purchase that the store has lost."""
    assert step.id not in bench.team().holds
    assert bench.settle(step).changes


def test_a_purchase_is_charged_if_the_store_has_lost_its_hold(bench: Bench) -> None:
    lose(bench, reserve("lost").settle(NOON, 3, 120_000))
    assert bench.team().day == PeriodUsage(day_of(NOON), 4, 160_000)
    assert bench.team().month == PeriodUsage(month_of(NOON), 4, 160_000)
    assert bench.team().minute == ((int(NOON), 2),)
    assert (bench.team().holds, bench.team().swept) == ({}, {})
    entry = bench.entries["lost"]
    assert (entry.at, entry.key, entry.outcome) == (NOON, "k1", "bought")
    assert (entry.images_bought, entry.cost) == (3, 120_000)


def test_it_is_charged_once(bench: Bench) -> None:
    step = reserve("lost").settle(NOON, 3, 120_000)
    lose(bench, step)
    state = bench.accounts[RED]
    for _ in range(2):
        assert not bench.settle(step).changes
    assert not bench.apply(release("lost")).changes
    bench.now += 400
    assert bench.apply(Expire(RED)).outcome == 0
    assert bench.accounts[RED] == state


def test_the_key_and_the_gateway_are_charged_too(bench: Bench) -> None:
    limits = Limits(images_per_day=100)
    step = reserve("lost", images=2, key_limits=limits, gateway_limits=limits)
    lose(bench, step.settle(NOON, 2, 80_000))
    today = PeriodUsage(day_of(NOON), 2, 80_000)
    assert bench.team().keys["k1"].day == bench.accounts[GATEWAY].day == today


@pytest.mark.parametrize("of_day", [True, False], ids=["day", "month"])
def test_it_is_charged_in_the_period_of_its_reservation(of_day: bool) -> None:
    end = end_of_day(day_of(NOON)) if of_day else end_of_month(month_of(NOON))
    bench = Bench(end + 10)
    bench.held(reserve("new"))
    limits = Limits(images_per_day=100)
    lose(bench, reserve("lost", key="k2", key_limits=limits).settle(end - 100, 1, 40_000))
    assert bench.team().day == PeriodUsage(day_of(end), 0, 0, 1, 40_000)
    assert bench.team().month.images == (1 if of_day else 0)
    assert ("k2" in bench.team().keys) == of_day
    assert bench.entries["lost"].at == end - 100


def test_a_purchase_too_old_to_distinguish_from_a_charged_one_is_left_alone(bench: Bench) -> None:
    bench.now += LOST_SECONDS
    lose(bench, reserve("just").settle(NOON, 1, 40_000))
    bench.now += 1
    assert not bench.settle(reserve("late").settle(NOON, 1, 40_000)).changes
