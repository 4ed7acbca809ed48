"""The quota steps in any order, twice or late, by a clock that jumps, over a store that goes back:
against a naive model.
"""

import copy
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.model import Entry, Limits
from gateway.core.periods import day_of, end_of_day, end_of_month, month_of
from gateway.quota.account import Account, Counters, team_account
from gateway.quota.purchase import Purchase, Refunded
from gateway.quota.refund import Refund
from gateway.quota.refusal import Refusal
from gateway.quota.step import Step, StepResult
from gateway.quota.steps import LOST_SECONDS, Denied, Expire, Held, Release, Reserve, Settle
from tests.support.naive_quota import KINDS, Naive, Owner, day, month
from tests.support.naive_quota import Purchase as NaivePurchase
from tests.support.quota_steps import NOON, Bench, reserve

T = TypeVar("T")

TEAMS = ("red", "blue", "gateway")
KEYS = ("k1", "k2")
DAY = 86_400.0
WHY = Refunded(at=NOON, who="ops", why="not billed")

images = st.integers(1, 5)
prices = st.sampled_from([0, 1, 40_000, 211_000])


def some(*sizes: int) -> st.SearchStrategy[int | None]:
    """A limit: often none, often one that a few purchases reach."""
    return st.sampled_from([None, None, *sizes])


budgets = {
    "images_per_day": some(3, 10, 20),
    "images_per_month": some(10, 25),
    "cost_per_day": some(80_000, 600_000),
    "cost_per_month": some(0, 1_500_000),
}
gateway_limits = st.just(Limits()) | st.builds(Limits, **budgets)
team_limits = st.builds(
    Limits, **budgets, requests_per_minute=some(0, 1, 2), concurrent_requests=some(0, 2, 4)
)
key_limits = st.just(Limits()) | team_limits
starts = st.sampled_from([NOON, end_of_day(day_of(NOON)) - 30, end_of_month(month_of(NOON)) - 30])
leaps = st.sampled_from([DAY / 2, DAY - 0.001, DAY, DAY + 400, 3 * DAY, 31 * DAY, 400 * DAY])
"""Seconds that change the period, or let what was swept be forgotten."""


class QuotaMachine(RuleBasedStateMachine):
    """Two teams and one that is called as the gateway's own account is, each with two keys.

    The store may go back to an older state while the gateways live on. It then lacks some
    purchases, and learns of those that are settled later.
    """

    saved: tuple[object, ...] | None = None

    @initialize(start=starts, gateway=gateway_limits, data=st.data())
    def begin(self, start: float, gateway: Limits, data: st.DataObject) -> None:
        self.bench = Bench(start)
        self.naive = Naive()
        self.gateway = gateway
        self.limits = {team: data.draw(team_limits, label=team) for team in TEAMS}
        self.key_limits = {
            (team, key): data.draw(key_limits, label=f"{team} {key}")
            for team in TEAMS
            for key in KEYS
        }
        self.steps: dict[str, Reserve] = {}
        self.held_at: dict[str, float] = {}
        self.given_up: set[str] = set()
        self.count = 0

    # -- what can happen ------------------------------------------------------------------------

    @rule(seconds=st.floats(0.001, 2.0) | st.sampled_from([0.0, 1.0, 30.0, 59.0, 60.0, 305.0]))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule(seconds=leaps, rare=st.integers(0, 3))
    def the_clock_jumps(self, seconds: float, rare: int) -> None:
        if not rare:
            self.bench.now += seconds

    @rule(data=st.data(), after=st.sampled_from([-0.5, 0.0, DAY - 0.001, DAY]))
    def a_lease_runs_out(self, data: st.DataObject, after: float) -> None:
        """The clock goes to where a lease ends, or to where its sweep is to be forgotten."""
        live = [p.lease + after for p in self.naive.purchases.values() if p.state != "closed"]
        ahead = [time for time in live if time > self.bench.now]
        if ahead:
            self.bench.now = data.draw(st.sampled_from(ahead))

    @precondition(lambda self: self.naive.purchases)
    @rule(data=st.data(), after=st.sampled_from([59.999, 60.0, 60.5, 60.999, 61.0]))
    def a_minute_passes(self, data: st.DataObject, after: float) -> None:
        """The clock goes to about a minute after a purchase."""
        ahead = [p.at + after for p in self.naive.purchases.values()]
        self.bench.now = max(self.bench.now, data.draw(st.sampled_from(ahead[-3:])))

    @rule(team=st.sampled_from(TEAMS), limits=team_limits)
    def an_operator_changes_limits(self, team: str, limits: Limits) -> None:
        self.limits[team] = limits

    @rule(team=st.sampled_from(TEAMS), key=st.sampled_from(KEYS), limits=key_limits)
    def an_operator_changes_a_keys_limits(self, team: str, key: str, limits: Limits) -> None:
        self.key_limits[team, key] = limits

    @rule(limits=gateway_limits)
    def the_gateway_restarts_with_other_limits(self, limits: Limits) -> None:
        self.gateway = limits

    @rule(
        team=st.sampled_from(TEAMS),
        key=st.sampled_from(KEYS),
        images=images,
        price=prices,
        lease=st.sampled_from([0.5, 30.0, 305.0]),
        times=st.integers(1, 4),
    )
    def purchases_are_asked_for(
        self, team: str, key: str, images: int, price: int, lease: float, times: int
    ) -> None:
        for _ in range(times):
            self.ask(team, key, images, price, lease)

    def ask(self, team: str, key: str, images: int, price: int, lease: float) -> None:
        self.count += 1
        step = reserve(
            f"r{self.count}",
            team,
            images,
            key=key,
            cost=images * price,
            lease=lease,
            limits=self.limits[team],
            gateway_limits=self.gateway,
            key_limits=self.key_limits[team, key],
        )
        expected = self.expected_refusals(step)
        applied = self.apply_twice(step)
        if isinstance(applied.outcome, Held):
            assert not expected
            assert applied.outcome.at == self.bench.now
            self.admitted(step)
        else:
            assert isinstance(applied.outcome, Denied)
            assert not applied.changes
            assert not applied.entries
            self.check_refusal(applied.outcome.refusal, expected)

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def a_reservation_is_asked_again(self, data: st.DataObject) -> None:
        known = [
            p for p in self.naive.purchases.values() if p.state != "closed" and not p.forgotten
        ]
        if not known:
            return
        purchase = data.draw(st.sampled_from(known))
        applied = self.apply_twice(self.steps[purchase.id])
        assert isinstance(applied.outcome, Held)
        assert applied.outcome.at == purchase.at
        assert not applied.changes

    @precondition(lambda self: self.count)
    @rule(
        data=st.data(),
        images=st.integers(0, 7),
        cost=st.integers(0, 400_000),
        unknown=st.booleans(),
    )
    def a_purchase_is_settled(
        self, data: st.DataObject, images: int, cost: int, unknown: bool
    ) -> None:
        id, team = self.some_purchase(data)
        self.apply_twice(Settle(id=id, team=team, images=images, cost=cost, unknown=unknown))
        self.naive.close(id, team, images, cost, "unknown" if unknown else "bought")

    @precondition(lambda self: self.count)
    @rule(data=st.data(), forget=st.booleans())
    def a_purchase_is_released(self, data: st.DataObject, forget: bool) -> None:
        id, team = self.some_purchase(data)
        self.apply_twice(Release(id=id, team=team, forget=forget))
        self.given_up |= {id} if forget else set()
        self.naive.close(id, team, 0, 0, "failed", forget)

    @precondition(lambda self: self.leases_that_ran_out())
    @rule(data=st.data())
    def somebody_sweeps(self, data: st.DataObject) -> None:
        team = data.draw(st.sampled_from(self.leases_that_ran_out()))
        applied = self.apply_twice(Expire(team_account(team)))
        assert applied.outcome == self.naive.sweep(team, self.bench.now)

    @precondition(lambda self: self.unknown_charges())
    @rule(data=st.data())
    def somebody_refunds(self, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from(self.unknown_charges()), label="refund")
        applied = self.bench.apply(Refund(purchase=purchase, refunded=WHY))
        assert self.bench.records[purchase.id] == applied.outcome
        self.naive.refund(purchase.id)

    @rule()
    def the_store_is_saved(self) -> None:
        bench = self.bench
        self.saved = copy.deepcopy((bench.accounts, bench.entries, bench.records, self.naive))

    @precondition(lambda self: self.saved)
    @rule()
    def the_store_goes_back(self) -> None:
        saved, bench = copy.deepcopy(self.saved), self.bench
        bench.accounts, bench.entries, bench.records, self.naive = saved  # type: ignore[misc,assignment]

    @precondition(lambda self: self.steps)
    @rule(
        data=st.data(),
        images=st.integers(0, 7),
        cost=st.integers(0, 400_000),
        unknown=st.booleans(),
    )
    def a_purchase_is_settled_that_may_be_lost(
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

    # -- how it is done -------------------------------------------------------------------------

    def apply_twice(self, step: Step[T]) -> StepResult[T]:
        """Apply a step, and again: the second time it changes nothing, and says the same."""
        note(f"{self.bench.now}: {step}")
        before, seen = self.encoded(), dict(self.bench.accounts)
        first = self.bench.apply(step)
        after, entries = self.encoded(), dict(self.bench.entries)
        assert msgspec.json.encode(seen) == before, "a step must not touch what it was given"
        second = self.bench.apply(step)
        assert self.encoded() == after
        assert self.bench.entries == entries
        assert type(second.outcome) is type(first.outcome)
        return first

    def leases_that_ran_out(self) -> list[str]:
        """The teams to be swept."""
        return sorted(
            {team for team in TEAMS for p in self.naive.open(team) if p.lease <= self.bench.now}
        )

    def unknown_charges(self) -> list[Purchase]:
        """The purchases that can be refunded."""
        return [purchase for purchase in self.bench.records.values() if not purchase.refunded]

    def encoded(self) -> bytes:
        return msgspec.json.encode(self.bench.accounts)

    def some_purchase(self, data: st.DataObject) -> tuple[str, str]:
        """An id that was asked for once, admitted or not; now and then with the wrong team."""
        live = [p.id for p in self.naive.purchases.values() if p.state != "closed"]
        every = [f"r{number}" for number in range(1, self.count + 1)]
        swept = [p.id for p in self.naive.purchases.values() if p.state == "swept"]
        id = data.draw(st.sampled_from(live * 2 + swept * 4 + every), label="purchase")
        team = self.steps[id].team if id in self.steps else "red"
        return id, data.draw(st.sampled_from([team] * 7 + ["blue"]), label="team")

    def expected_refusals(self, step: Reserve) -> set[tuple[str, str, str]]:
        """Scope, limit and kind of all that the model would refuse for."""
        owners: list[tuple[str, Owner, Limits]] = [
            ("team", step.team, step.limits),
            ("gateway", "", step.gateway_limits),
            ("key", (step.team, step.key), step.key_limits),
        ]
        return {
            (scope, *found)
            for scope, owner, limits in owners
            for found in self.naive.refusals(owner, limits, step.images, step.cost, self.bench.now)
        }

    def check_refusal(self, refusal: Refusal, expected: set[tuple[str, str, str]]) -> None:
        """It is one of those expected, of the hardest kind, and says when it opens."""
        kind = "passes" if refusal.wait is not None else "resets" if refusal.resets_at else "never"
        assert (refusal.scope, refusal.limit, kind) in expected
        assert kind == max((kind for _, _, kind in expected), key=KINDS.index)
        if refusal.resets_at is not None:
            same = period(refusal.limit)
            assert (
                same(refusal.resets_at - 0.001) == same(self.bench.now) != same(refusal.resets_at)
            )
        if refusal.wait is not None:
            assert 0 < refusal.wait <= 60
        names: dict[str, tuple[str, ...]] = {"team": TEAMS, "key": KEYS, "gateway": ("",)}
        assert refusal.owner in names[refusal.scope]

    def admitted(self, step: Reserve) -> None:
        """Tell the model, and look whether any limit is broken by it."""
        now = self.bench.now
        self.steps[step.id] = step
        self.held_at[step.id] = now
        self.naive.admit(self.purchase(step, now))
        own: list[tuple[Owner, Limits]] = [
            (step.team, step.limits),
            ((step.team, step.key), step.key_limits),
        ]
        for owner, limits in (*own, ("", step.gateway_limits)):
            for span in ("day", "month"):
                spent, paid, held, owed = self.naive.sums(owner, period(span)(now))
                assert below(spent + held, getattr(limits, f"images_per_{span}"))
                assert below(paid + owed, getattr(limits, f"cost_per_{span}"))
        for owner, limits in own:
            recent = [p for p in self.naive.of(owner) if p.at > now - 60]
            assert below(len(recent), limits.requests_per_minute)
            assert below(len(self.naive.open(owner)), limits.concurrent_requests)
        for counters in self.bench.team(step.team).keys.values():
            assert not counters.is_over(now), "what is over must not be kept"

    def purchase(self, step: Reserve, at: float) -> NaivePurchase:
        """The model's own, admitted at that time."""
        limited = bool(step.gateway_limits), bool(step.key_limits)
        lease = at + step.lease
        return NaivePurchase(
            step.id, step.team, step.key, at, lease, step.images, step.cost, *limited
        )

    # -- what always holds ----------------------------------------------------------------------

    @invariant()
    def counters_are_the_sums(self) -> None:
        for owner in (*TEAMS, ""):
            self.check_counters(owner, self.bench.team(owner) if owner else self.bench.gateway)
        for team in TEAMS:
            keys = self.bench.team(team).keys
            for key in KEYS:
                if key in keys:
                    self.check_counters((team, key), keys[key])
                else:  # it never had any, or they were over
                    counted = self.naive.sums((team, key), month(self.bench.now))
                    assert counted == (0, 0, 0, 0)
        assert self.bench.gateway.keys == {}

    def check_counters(self, owner: Owner, counters: Counters) -> None:
        """The windows are those of the owner's last purchase, and count what was of them."""
        for window, number, name in (
            (counters.day, day_of, day),
            (counters.month, month_of, month),
        ):
            counted = (window.images, window.cost, window.held_images, window.held_cost)
            assert min(counted) >= 0
            last = max((p.at for p in self.naive.of(owner)), default=None)
            if last is None:
                assert (window.period, *counted) == (0, 0, 0, 0, 0)
            else:
                assert window.period == number(last)
                assert counted == self.naive.sums(owner, name(last))

    @invariant()
    def holds_are_the_open_purchases(self) -> None:
        for team in TEAMS:
            account = self.bench.team(team)
            assert set(account.holds) == {p.id for p in self.naive.open(team)}
            leases = [p.lease for p in self.naive.open(team)]
            assert account.earliest_lease == min(leases, default=None)
            swept = [p for p in self.naive.of(team) if p.state == "swept" and not p.forgotten]
            assert set(account.swept) == {p.id for p in swept}
            assert len(account.minute) <= 61
        assert self.bench.gateway.holds == self.bench.gateway.swept == {}
        assert self.bench.gateway.minute == ()

    @invariant()
    def the_history_is_what_was_charged(self) -> None:
        lines = {p.id: p for p in self.naive.purchases.values() if p.entry is not None}
        assert set(self.bench.entries) == set(lines)
        for id, entry in self.bench.entries.items():
            assert (entry.team, entry.key) == (lines[id].team, lines[id].key)
            assert (entry.at, entry.requests) == (lines[id].at, 1)
            assert line(entry) == lines[id].entry
        assert {purchase.id for purchase in self.unknown_charges()} == {
            id for id, entry in self.bench.entries.items() if entry.outcome == "unknown"
        }
        for team in TEAMS:
            account = self.bench.team(team)
            assert self.history(team, account) == (account.day.images, account.day.cost)

    def history(self, team: str, account: Account) -> tuple[int, int]:
        """Return the usage of the day that an account counts, by its entries."""
        own = [
            entry
            for entry in self.bench.entries.values()
            if entry.team == team and day_of(entry.at) == account.day.period
        ]
        return sum(entry.images_bought for entry in own), sum(entry.cost for entry in own)


def below(used: int, limit: int | None) -> bool:
    return limit is None or used <= limit


def period(limit: str) -> Any:
    """The naive name of the period that a limit's name speaks of."""
    return day if "day" in limit else month


def line(entry: Entry) -> tuple[str, int, int, int]:
    return entry.outcome, entry.images_bought, entry.images_unknown, entry.cost


TestQuotaModel = QuotaMachine.TestCase
TestQuotaModel.settings = settings(
    max_examples=4 * settings().max_examples,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
