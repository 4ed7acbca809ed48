"""Single steps and their pairs; `test_steps_model.py` tries them in any order."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.model import Limits
from gateway.core.periods import PeriodUsage, day_of, end_of_month, month_of
from gateway.quota.account import GATEWAY, MEMORY_SECONDS, Counters, team_account
from gateway.quota.limits import rate_limit_status
from gateway.quota.operations import NONE, Found, Operation, Operations, Repeat
from gateway.quota.step import Step
from gateway.quota.steps import (
    LOST_SECONDS,
    Deliver,
    Denied,
    Expire,
    Held,
    Leave,
    Release,
    Reserve,
    Settle,
    Taken,
)
from tests.support.quota_steps import NOON, Bench, release, reserve, settle, wish

RED = team_account("red")
LIMITED = Limits(images_per_day=100)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def today(images: int = 0, cost: int = 0, held_images: int = 0, held_cost: int = 0) -> PeriodUsage:
    return PeriodUsage(day_of(NOON), images, cost, held_images, held_cost)


def test_a_purchase_is_held_at_its_ceiling_and_charged_as_delivered(bench: Bench) -> None:
    held = bench.held(reserve(images=4, limits=Limits(images_per_day=10)))
    assert held.at == NOON
    assert held.rate_limits.images is not None
    assert held.rate_limits.images.remaining == 6
    team = bench.team()
    assert team.day == today(held_images=4, held_cost=160_000)
    assert team.month == PeriodUsage(month_of(NOON), 0, 0, 4, 160_000)
    assert team.minute == ((int(NOON), 1),)
    assert team.earliest_lease == NOON + 305
    assert not bench.entries
    bench.now += 20
    bench.apply(settle(images=3))
    assert bench.team().day == today(3, 120_000)
    assert bench.team().holds == {}
    entry = bench.entries["r1"]
    assert (entry.at, entry.team, entry.key, entry.model) == (NOON, "red", "k1", "gpt-image-2")
    assert (entry.size, entry.quality, entry.outcome) == ("1024x1024", "high", "bought")
    assert (entry.images_bought, entry.images_unknown, entry.cost) == (3, 0, 120_000)
    assert (entry.requests, entry.images_cached, entry.saved) == (1, 0, 0)


@pytest.mark.parametrize(
    ("step", "outcome", "images", "unknown", "cost"),
    [
        (settle(images=4, unknown=True), "unknown", 4, 4, 160_000),
        (settle(images=4, cost=265_000), "bought", 4, 0, 265_000),  # above its hold
        (release(), "failed", 0, 0, 0),
    ],
)
def test_other_outcomes_are_charged_and_recorded_in_full(
    bench: Bench, step: Settle | Release, outcome: str, images: int, unknown: int, cost: int
) -> None:
    bench.held(reserve(images=4, limits=Limits(cost_per_day=160_000)))
    bench.apply(step)
    assert bench.team().day == today(images, cost)
    entry = bench.entries["r1"]
    assert (entry.outcome, entry.requests, entry.cost) == (outcome, 1, cost)
    assert (entry.images_bought, entry.images_unknown) == (images, unknown)


def test_giving_up_leaves_no_entry(bench: Bench) -> None:
    bench.held(reserve(images=4))
    assert bench.apply(release("never", forget=True)).changes == {}
    bench.apply(release(forget=True))
    assert bench.team().day == today()
    assert bench.team().holds == {}
    assert not bench.entries


def test_a_repeated_reservation_is_held_once_also_after_its_sweep(bench: Bench) -> None:
    step = reserve(images=2, limits=Limits(concurrent_requests=1, images_per_day=2))
    bench.held(step)
    for bench.now in (NOON + 1, NOON + 305):
        bench.apply(Expire(RED))
        applied = bench.apply(step)
        assert isinstance(applied.outcome, Held)
        assert applied.outcome.at == NOON
        assert applied.outcome.rate_limits.images is not None
        assert applied.outcome.rate_limits.images.remaining == 0
        assert applied.changes == {}
    assert bench.team().day == today(2, 80_000)


@pytest.mark.parametrize("first", range(4))
def test_only_the_first_outcome_counts(bench: Bench, first: int) -> None:
    outcomes: list[Settle | Release] = [settle(images=2), settle(images=1), release()]
    outcomes.append(release(forget=True))
    bench.held(reserve(images=2))
    assert bench.apply(settle("r1", "blue")).changes == {}
    bench.apply(outcomes[first])
    state, entries = bench.team(), dict(bench.entries)
    for later in outcomes:
        bench.apply(later)
        assert bench.team() == state
        assert bench.entries == entries


# -- the sweep ----------------------------------------------------------------------------------


def test_only_expired_holds_are_swept_and_remembered_for_a_day(bench: Bench) -> None:
    bench.held(reserve("short", images=2, lease=10.0))
    bench.held(reserve("long", images=3, lease=MEMORY_SECONDS + 50.0))
    bench.now = NOON + 9.999
    assert bench.apply(Expire(RED)).changes == {}
    bench.now = NOON + 10
    assert [bench.apply(Expire(RED)).outcome for _ in range(2)] == [1, 0]
    assert (list(bench.team().holds), list(bench.team().swept)) == (["long"], ["short"])
    assert bench.team().day == today(2, 80_000, 3, 120_000)
    entry = bench.entries["short"]
    assert (entry.outcome, entry.images_unknown, entry.cost) == ("unknown", 2, 80_000)
    for bench.now, known in ((NOON + 9.999 + MEMORY_SECONDS, 1), (NOON + 10 + MEMORY_SECONDS, 0)):
        bench.held(reserve(f"at {bench.now}"))
        assert len(bench.team().swept) == known
    assert bench.apply(settle("short")).changes == {}


def test_a_sweep_forgets_older_holds_after_a_day(bench: Bench) -> None:
    assert bench.apply(Expire(RED)).outcome == 0
    for id, lease in (("first", 10.0), ("second", 20.0), ("third", MEMORY_SECONDS + 15.0)):
        bench.held(reserve(id, lease=lease))
    for seconds, known in ((10, ["first"]), (20, ["first", "second"])):
        bench.now = NOON + seconds
        assert bench.apply(Expire(RED)).outcome == 1
        assert list(bench.team().swept) == known
    bench.now = NOON + MEMORY_SECONDS + 15
    bench.apply(Expire(RED))
    assert list(bench.team().swept) == ["second", "third"]


def test_a_late_outcome_replaces_the_unknown_charge_once(bench: Bench) -> None:
    bench.held(reserve(images=4, key_limits=LIMITED, gateway_limits=LIMITED))
    bench.now += 305
    bench.apply(Expire(RED))
    for late in (settle(images=3), settle(images=2), release()):
        bench.apply(late)
        assert bench.team().day == bench.gateway.day == today(3, 120_000)
        assert bench.team().keys["k1"].day == today(3, 120_000)
        assert bench.entries["r1"].images_bought == 3


def test_giving_up_takes_back_the_unknown_charge_of_a_sweep(bench: Bench) -> None:
    bench.held(reserve(images=4))
    bench.now += 305
    bench.apply(Expire(RED))
    assert bench.entries["r1"].outcome == "unknown"
    bench.apply(release(forget=True))
    assert bench.team().day == today()
    assert (bench.entries["r1"].outcome, bench.entries["r1"].cost) == ("failed", 0)


# -- the gateway-wide account -------------------------------------------------------------------


def test_the_gateways_account_counts_only_holds_that_began_in_it(bench: Bench) -> None:
    assert reserve().accounts == (RED,)
    assert reserve(gateway_limits=LIMITED).accounts == (RED, GATEWAY)
    for step in (reserve("out"), reserve("late"), reserve("in", gateway_limits=LIMITED)):
        bench.held(step)
    bench.apply(settle("out"))
    assert bench.gateway.day == today(held_images=1, held_cost=40_000)
    bench.now += 305
    bench.apply(Expire(RED))
    assert bench.gateway.day == today(1, 40_000)
    assert bench.team().day == today(3, 120_000)


def test_an_outcome_writes_only_accounts_that_it_changes(bench: Bench) -> None:
    bench.held(reserve("first"))
    assert list(bench.apply(settle("first")).changes) == [RED]
    bench.held(reserve("in", gateway_limits=LIMITED))
    bench.held(reserve("out"))
    assert list(bench.apply(settle("out")).changes) == [RED]
    assert set(bench.apply(settle("in")).changes) == {RED, GATEWAY}


def test_teams_share_the_gateways_limit(bench: Bench) -> None:
    limits = Limits(images_per_day=5)
    bench.held(reserve("r1", "red", 3, gateway_limits=limits))
    assert bench.refused(reserve("r2", "blue", 3, gateway_limits=limits)).refusal.scope == "gateway"
    bench.held(reserve("r3", "blue", 2, gateway_limits=limits))


# -- keys ---------------------------------------------------------------------------------------


def test_a_key_counts_and_limits_only_holds_that_began_under_its_limits(bench: Bench) -> None:
    bench.held(reserve("counted", images=2, key_limits=LIMITED))
    bench.held(reserve("free", images=5))
    bench.held(reserve("lost", images=3))
    refused = bench.refused(reserve("next", key_limits=Limits(images_per_day=2))).refusal
    assert (refused.scope, refused.owner, refused.limit) == ("key", "k1", "images_per_day")
    refused = bench.refused(reserve("next", key_limits=Limits(concurrent_requests=3))).refusal
    assert refused.limit == "concurrent_requests"  # calls that began without limits are open, too
    # Another key has limits of its own, which count its calls alone.
    bench.held(reserve("other", key="k2", key_limits=Limits(concurrent_requests=1)))
    bench.apply(settle("free", images=5))
    assert bench.team().keys["k1"].day == today(held_images=2, held_cost=80_000)
    bench.now += 305
    bench.apply(Expire(RED))
    assert bench.team().keys["k1"].day == today(2, 80_000)


def test_the_rate_limits_of_a_key_count_its_own_purchases(bench: Bench) -> None:
    bench.held(reserve("other", key="k2", images=3, key_limits=LIMITED))
    rate_limits = bench.held(reserve("own", images=2, key_limits=LIMITED)).rate_limits
    assert rate_limits.images is not None
    assert rate_limits.images.remaining == 98


def test_counters_of_quiet_keys_do_not_pile_up(bench: Bench) -> None:
    for number in range(50):
        bench.held(reserve(f"r{number}", key=f"k{number}", key_limits=LIMITED))
        bench.apply(settle(f"r{number}"))
    bench.held(reserve("open", images=2, key="k0", key_limits=LIMITED))
    assert len(bench.team().keys) == 50
    bench.now = end_of_month(month_of(NOON))
    bench.held(reserve("next", key="new"))
    assert bench.team().keys == {}
    bench.apply(settle("open", images=1))
    assert bench.team().keys == {}
    bench.held(reserve("again", key="k0", key_limits=LIMITED))
    assert bench.team().keys == {
        "k0": Counters(
            PeriodUsage(day_of(bench.now), 0, 0, 1, 40_000),
            PeriodUsage(month_of(bench.now), 0, 0, 1, 40_000),
            ((int(bench.now), 1),),
        )
    }


def test_counters_are_over_once_their_month_and_minute_have_ended() -> None:
    end = end_of_month(month_of(NOON))
    month = PeriodUsage(month_of(NOON))
    counters = Counters(PeriodUsage(day_of(NOON)), month, ((int(end) - 10, 1),))
    assert not counters.is_over(end - 0.001)
    assert not counters.is_over(end)
    assert not counters.is_over(end + 50.999)
    assert counters.is_over(end + 51)


def test_a_quiet_minute_does_not_end_the_counters_of_a_key(bench: Bench) -> None:
    limits = Limits(images_per_month=2)
    bench.held(reserve("r1", key_limits=limits))
    for seconds, id in ((120, "r2"), (240, "r3")):
        bench.now = NOON + seconds
        bench.held(reserve(id, key="other"))
    assert bench.team().keys["k1"].month == PeriodUsage(month_of(NOON), 0, 0, 1, 40_000)


# -- refusals -----------------------------------------------------------------------------------


def test_a_refusal_consumes_nothing(bench: Bench) -> None:
    limits = Limits(concurrent_requests=1, requests_per_minute=1, images_per_day=2)
    bench.held(reserve("a", limits=limits))
    for _ in range(5):
        bench.refused(reserve("b", limits=limits))
    bench.apply(settle("a"))
    bench.now = NOON + 60.999
    refused = bench.refused(reserve("c", limits=limits))
    assert refused.refusal.limit == "requests_per_minute"
    assert refused.rate_limits.images is not None
    assert refused.rate_limits.images.remaining == 1
    bench.now = NOON + 61
    assert bench.held(reserve("c", limits=limits)).rate_limits.images is not None


def test_no_team_shares_the_gateways_account() -> None:
    names = {GATEWAY, team_account("gateway"), team_account("team:gateway"), team_account("")}
    assert len(names) == 4


# -- a store that came back without a purchase ---------------------------------------------------


def test_a_purchase_is_charged_if_the_store_has_lost_its_hold(bench: Bench) -> None:
    bench.held(reserve("old"))
    bench.settle(reserve("old").settle(NOON, 1, 40_000))
    assert bench.settle(reserve("lost").settle(NOON, 3, 120_000)).changes
    assert bench.team().day == today(4, 160_000)
    assert bench.team().month == PeriodUsage(month_of(NOON), 4, 160_000)
    assert bench.team().minute == ((int(NOON), 2),)
    assert (bench.team().holds, bench.team().swept) == ({}, {})
    entry = bench.entries["lost"]
    assert (entry.at, entry.key, entry.outcome) == (NOON, "k1", "bought")
    assert (entry.images_bought, entry.cost) == (3, 120_000)


def test_a_purchase_too_old_to_distinguish_from_a_charged_one_is_left_alone(bench: Bench) -> None:
    bench.now += LOST_SECONDS
    assert bench.settle(reserve("just").settle(NOON, 1, 40_000)).changes
    bench.now += 1
    assert not bench.settle(reserve("late").settle(NOON, 1, 40_000)).changes


def test_a_lost_purchase_counts_in_its_own_second(bench: Bench) -> None:
    bench.held(reserve("first"))
    bench.now += 5
    bench.held(reserve("second"))
    bench.held(reserve("third"))
    for id, seconds in (("a", 3), ("b", 0), ("c", 3)):
        assert bench.settle(reserve(id).settle(NOON + seconds, 1, 40_000)).changes
    noon = int(NOON)
    assert bench.team().minute == ((noon, 2), (noon + 3, 2), (noon + 5, 2))


# -- operations ----------------------------------------------------------------------------------

WISHED = reserve(wish=wish())


def operation(**fields: Any) -> Operation:
    """The operation of that purchase."""
    running = WISHED.operation(NOON)
    assert running is not None
    return replace(running, **fields)


def taken(bench: Bench, step: Reserve) -> Found | Repeat:
    """What a request finds instead of being bought. It consumes nothing."""
    before = dict(bench.accounts)
    applied = bench.apply(step)
    assert isinstance(applied.outcome, Taken)
    assert applied.outcome.rate_limits == rate_limit_status(
        [(bench.team(), step.limits)], bench.now
    )
    assert (bench.accounts, applied.entries) == (before, ())
    return applied.outcome.found


def test_a_purchase_is_an_operation_until_its_client_gets_the_answer(bench: Bench) -> None:
    bench.held(WISHED)
    assert bench.operations == {"key:body": Operations((operation(),))}
    assert (operation().id, operation().at, operation().lease) == ("r1", NOON, NOON + 305)
    assert reserve().operation(NOON) is None
    bench.held(WISHED)  # the reply was lost
    assert bench.operations == {"key:body": Operations((operation(),))}
    bench.now += 5
    assert bench.apply(WISHED.settle(NOON, 1, 40_000)).outcome is None
    assert bench.operations == {"key:body": Operations(succeeded=NOON)}
    assert bench.entries["r1"].outcome == "bought"


def test_a_refused_purchase_is_no_operation(bench: Bench) -> None:
    assert isinstance(bench.apply(replace(WISHED, limits=Limits(images_per_day=0))).outcome, Denied)
    assert bench.operations == {}


def test_a_purchase_that_a_client_left_is_taken_over_and_delivered(bench: Bench) -> None:
    bench.held(WISHED)
    leave = Leave(record="key:body", id="r1")
    bench.apply(leave)
    assert bench.operations["key:body"].all == (operation(left=True),)
    assert bench.apply(leave).records == {}
    bench.now += 5
    settled = bench.apply(WISHED.settle(NOON, 1, 40_000))
    whole = operation(state="bought", ended=NOON + 5, left=True)
    assert (settled.outcome, bench.operations["key:body"].all) == (whole, (whole,))
    second = reserve("r2", wish=wish(), limits=Limits(images_per_day=1))
    assert taken(bench, second) == Found(whole)
    claim = bench.operations["key:body"].all[0]
    assert (claim.claim, claim.claimant, claim.claimed) == ("r2", "here", NOON + 5)
    assert taken(bench, second) == Found(claim)  # the reply was lost
    assert bench.apply(Deliver(record="key:body", id="other")).records == {}
    bench.apply(Deliver(record="key:body", id="r2"))
    assert bench.operations == {"key:body": Operations(succeeded=NOON)}


def test_a_whole_answer_that_a_client_left_is_an_operation_again(bench: Bench) -> None:
    bench.held(WISHED)
    bench.apply(WISHED.settle(NOON, 1, 40_000))
    whole = operation(state="bought", ended=NOON)
    bench.apply(Leave(record="key:body", id="r1", whole=whole))
    assert taken(bench, reserve("r2", wish=wish())) == Found(replace(whole, left=True))


def test_an_unknown_outcome_is_kept_and_its_repeat_refused(bench: Bench) -> None:
    bench.held(WISHED)
    bench.now += 5
    settled = bench.apply(WISHED.settle(NOON, 1, 40_000, unknown=True, failure=b"why"))
    found = taken(bench, reserve("r2", wish=wish()))
    assert found == Repeat(settled.outcome, 60.0)
    assert found.operation.failure == b"why"
    assert bench.operations["key:body"].all == (found.operation,)


def test_an_answer_that_all_gateways_find_in_the_cache_is_no_operation(bench: Bench) -> None:
    bench.held(WISHED)
    bench.apply(Leave(record="key:body", id="r1"))
    assert bench.apply(WISHED.settle(NOON, 1, 40_000, cached=True)).outcome is None
    assert bench.operations["key:body"].all == ()


@pytest.mark.parametrize("forget", [True, False])
def test_a_released_purchase_is_no_operation_any_more(bench: Bench, forget: bool) -> None:
    bench.held(WISHED)
    step = WISHED.release(forget=forget)
    assert step == Release(id="r1", team="red", forget=forget, record="key:body")
    assert WISHED.release() == replace(step, forget=False)
    bench.apply(step)
    assert bench.operations["key:body"].all == ()
    assert ("r1" in bench.entries) is not forget


STEPS_WITH_A_RECORD: list[Step[Any]] = [
    Leave(record="key:body", id="r1"),
    Deliver(record="key:body", id="r1"),
    WISHED.release(),
]


@pytest.mark.parametrize("step", STEPS_WITH_A_RECORD)
def test_a_step_without_its_operation_writes_no_record(bench: Bench, step: Step[Any]) -> None:
    for known in ({}, {"key:body": NONE}):
        bench.operations = dict(known)
        assert bench.apply(step).records == {}


def test_a_late_outcome_of_a_lost_purchase_is_an_operation(bench: Bench) -> None:
    late = WISHED.settle(NOON, 1, 40_000, unknown=True, failure=b"why")
    expected = operation(state="unknown", ended=NOON, failure=b"why")
    assert bench.settle(late).outcome == expected
    assert bench.entries["r1"].outcome == "unknown"
