"""Settlements of purchases that the store has lost: it came back with an older state."""

import copy

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.steps import LOST_SECONDS, Expire, Settle
from tests.quota.test_steps_model import QuotaMachine
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


def test_a_settled_purchase_is_not_charged_again(bench: Bench) -> None:
    assert not bench.settle(reserve("old").settle(NOON, 1, 40_000)).changes


def test_a_release_of_a_lost_purchase_changes_nothing(bench: Bench) -> None:
    assert not bench.apply(release("lost")).changes
    assert "lost" not in bench.entries


def test_an_unknown_outcome_of_a_lost_purchase_is_marked(bench: Bench) -> None:
    lose(bench, reserve("lost", images=2).settle(NOON, 2, 80_000, unknown=True))
    assert (bench.entries["lost"].outcome, bench.entries["lost"].images_unknown) == ("unknown", 2)


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


class LosingMachine(QuotaMachine):
    """The same, over a store that goes back to what it was; the gateways live on.

    Counters, holds and history are still what the naive model says of a store that has lost some
    purchases, and learns of those that are settled later.
    """

    saved: tuple[object, ...] | None = None

    @rule()
    def the_store_is_saved(self) -> None:
        self.saved = copy.deepcopy((self.bench.accounts, self.bench.entries, self.naive))

    @precondition(lambda self: self.saved)
    @rule()
    def the_store_goes_back(self) -> None:
        saved = copy.deepcopy(self.saved)
        self.bench.accounts, self.bench.entries, self.naive = saved  # type: ignore[misc,assignment]

    @precondition(lambda self: self.steps)
    @rule(
        data=st.data(),
        images=st.integers(0, 7),
        cost=st.integers(0, 400_000),
        unknown=st.booleans(),
    )
    def a_purchase_is_settled(
        self, data: st.DataObject, images: int, cost: int, unknown: bool
    ) -> None:
        lost = [id for id in self.steps if id not in self.naive.purchases]
        id = data.draw(st.sampled_from(lost * 4 + list(self.steps)), label="purchase")
        if id in self.given_up:
            return
        step, at = self.steps[id], self.held_at[id]
        settle = step.settle(at, images, cost, unknown=unknown)
        for _ in range(2):  # its reply may be lost
            self.bench.settle(settle)
        in_time = self.bench.now <= at + LOST_SECONDS
        if id in lost and in_time:
            self.naive.admit_again(self.purchase(step, at), self.bench.now)
        self.naive.close(id, step.team, images, cost, "unknown" if unknown else "bought")
        assert id in self.bench.entries or not in_time


TestQuotaLost = LosingMachine.TestCase
TestQuotaLost.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
