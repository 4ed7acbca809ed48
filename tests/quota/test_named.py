"""Which request has a name, and what is noted of what it got."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.quota.account import EMPTY
from gateway.quota.named import Answered, CachedAs, Claim, Promise, Unanswered
from gateway.quota.operations import (
    GONE,
    LEASE_SECONDS,
    NAMED_SECONDS,
    NONE,
    Found,
    Operation,
    Operations,
    Wish,
    as_of,
    others,
)
from gateway.quota.step import Step
from gateway.quota.steps import Held, Taken
from tests.support.quota_steps import reserve, wish

NOW = 1_772_366_400.0
LEASE = 305.0

A_PICTURE = CachedAs("answer", 7, NOW - 9, "red")


def named(gateway: str = "here", **fields: Any) -> Wish:
    return wish(**{"name": "n", "body": "apple", "gateway": gateway, "request": "r", **fields})


def claim(id: str = "first", cached: CachedAs | None = None, **fields: Any) -> Claim:
    return Claim(id=id, wish=named(**fields), lease=LEASE, cached=cached)


class Name:
    """The record of a name, which steps change."""

    def __init__(self, operations: Operations = NONE) -> None:
        self.operations = operations

    def apply(self, step: Step[Any], now: float = NOW) -> Any:
        done = step.apply({}, now, {"n": self.operations} if self.operations.all else {})
        assert step.accounts or done.changes == {}
        self.operations = done.records.get("n", self.operations)
        return done.outcome

    @property
    def only(self) -> Operation:
        (operation,) = self.operations.all
        return operation


def running(**fields: Any) -> Operation:
    values = {"request": "r", "gateway": "here", "at": NOW, "lease": NOW + LEASE, "body": "apple"}
    return Operation(id="first", **{**values, **fields})


def test_the_first_request_has_the_name_and_others_see_it() -> None:
    name = Name()
    first = name.apply(claim())
    assert (first.id, first.state, first.is_open) == ("first", "waiting", True)
    assert (first.request, first.gateway) == ("r", "here")
    assert name.apply(claim("second", gateway="there")) == first
    assert name.apply(claim("third", body="pear")).body == "apple"
    assert name.apply(claim()) == first  # the reply was lost, and the ledger asks again


def test_a_cached_answer_is_bound_at_once() -> None:
    name = Name()
    first = name.apply(claim(cached=A_PICTURE))
    assert (first.state, first.answer, first.mark, first.dated) == ("bought", "answer", 7, NOW - 9)
    assert (first.scope, first.ended, first.is_open, first.free) == ("red", NOW, False, True)
    newer = CachedAs("answer", 8, NOW, "red")
    assert name.apply(claim("second", cached=newer)) == first


def test_a_name_that_is_given_up_is_free_but_a_bound_one_stays() -> None:
    name = Name()
    name.apply(claim())
    name.apply(claim().release())
    assert name.operations == NONE
    name.apply(claim(cached=A_PICTURE))
    name.apply(claim().release())
    assert name.only.answer == "answer"


def test_a_reservation_turns_the_claim_into_a_running_operation() -> None:
    name = Name()
    name.apply(claim())
    step = reserve("first", wish=named())
    assert isinstance(name.apply(step, NOW + 1), Held)
    assert (name.only.state, name.only.at, name.only.body) == ("running", NOW + 1, "apple")
    name.apply(claim().release())
    assert name.only.state == "running"


def test_a_reservation_finds_the_name_taken() -> None:
    name = Name()
    name.apply(claim("other", gateway="there"))
    done = reserve("first", wish=named()).apply({}, NOW, {"n": name.operations})
    assert isinstance(done.outcome, Taken)
    assert done.outcome.found == Found(name.only)
    assert done.changes == {}
    assert done.records.get("n", name.operations) == name.operations


def test_the_end_of_a_purchase_is_noted_and_its_answer_afterwards() -> None:
    step = reserve("first", wish=named())
    name = Name(Operations((running(),)))
    name.apply(step.settle(NOW, 1, 40_000), NOW + 5)
    assert (name.only.state, name.only.is_open) == ("bought", True)
    name.apply(Answered(record="n", id="first", cached=A_PICTURE), NOW + 6)
    assert (name.only.answer, name.only.ended, name.only.is_open) == ("answer", NOW + 5, False)
    assert not name.only.free
    name.apply(Answered(record="n", id="first", cached=CachedAs("other", 1, NOW, "red")))
    assert name.only.answer == "answer"
    early = Name(Operations((running(),)))
    early.apply(Answered(record="n", id="first", cached=A_PICTURE), NOW + 6)
    assert (early.only.state, early.only.ended, early.only.free) == ("bought", NOW + 6, False)
    joined = Name()
    joined.apply(claim())
    joined.apply(Answered(record="n", id="first", cached=A_PICTURE))
    assert joined.only.free
    # For a day from its end.
    assert name.apply(claim("second"), NOW + NAMED_SECONDS + 4).id == "first"
    assert name.apply(claim("second"), NOW + NAMED_SECONDS + 6).id == "second"


def test_an_unknown_outcome_keeps_the_name_and_a_definite_failure_does_not() -> None:
    step = reserve("first", wish=named())
    name = Name(Operations((running(),)))
    name.apply(step.settle(NOW, 1, 40_000, unknown=True, failure=b"f"), NOW + 5)
    assert (name.only.state, name.only.failure) == ("unknown", b"f")
    assert name.apply(claim("second"), NOW + NAMED_SECONDS).id == "first"
    name = Name(Operations((running(),)))
    name.apply(step.release())
    assert name.operations == NONE


def test_who_joins_an_unknown_outcome_has_it_under_the_own_name() -> None:
    name = Name()
    name.apply(claim())
    name.apply(Unanswered(record="n", id="first", failure=b"f", unknown=True))
    assert (name.only.state, name.only.failure, name.only.ended) == ("unknown", b"f", NOW)


@pytest.mark.parametrize(
    ("state", "answer", "seen"),
    [
        ("waiting", "", ("failed", "")),
        ("running", "", ("unknown", "")),
        ("bought", "", ("bought", GONE)),
        ("bought", "answer", ("bought", "answer")),
    ],
)
def test_what_a_dead_gateway_leaves(state: Any, answer: str, seen: tuple[str, str]) -> None:
    operation = running(gateway="there", state=state, answer=answer)
    found = as_of(operation, "here", {}, NOW + LEASE_SECONDS)
    assert (found.state, found.answer) == seen
    assert found.ended == (0.0 if state == "bought" else NOW + LEASE_SECONDS)
    alive = {"there": NOW + LEASE_SECONDS + 1}
    assert as_of(operation, "here", alive, NOW + LEASE_SECONDS) == operation
    assert (others(Operations((operation,)), "here") == {"there"}) == (not answer)


def test_what_failed_does_not_depend_on_its_gateway() -> None:
    failed = running(gateway="there", state="failed", ended=NOW, promised=True)
    assert as_of(failed, "here", {}, NOW + LEASE_SECONDS) == failed
    assert others(Operations((failed,)), "here") == set()


def test_a_dead_gateways_claim_is_free_and_its_purchase_is_not() -> None:
    later = NOW + LEASE_SECONDS
    name = Name(Operations((running(gateway="there", state="waiting"),)))
    assert name.apply(claim("second"), later).id == "second"
    name = Name(Operations((running(gateway="there"),)))
    assert name.apply(claim("second"), later).state == "unknown"
    assert Name(Operations((running(),))).apply(claim("second"), later).state == "running"


def test_a_full_store_forgets_what_is_bought_but_nothing_open_or_unknown() -> None:
    bought = running(state="bought", ended=NOW, answer="a")
    assert Operations((bought,)).expendable == 1
    assert Operations((replace(bought, free=True),)).expendable == 2
    for state in ("waiting", "running", "unknown"):
        for free in (False, True):
            assert not Operations((replace(bought, state=state, free=free),)).expendable


def test_no_step_of_a_name_touches_an_account() -> None:
    for step in (
        claim(),
        Answered(record="n", id="first", cached=A_PICTURE),
        Unanswered(record="n", id="first"),
    ):
        assert step.accounts == ()
        assert step.apply({"team:red": EMPTY}, NOW, {}).changes == {}


# -- asking later ---------------------------------------------------------------------------------


def test_a_reservation_promises_an_answer_and_its_failure_is_kept() -> None:
    name, later = Name(), named(promised=True, form="url")
    name.apply(Claim(id="first", wish=later, lease=LEASE))
    assert not name.only.promised  # a refusal needs no record
    name.apply(reserve("first", wish=later))
    assert (name.only.promised, name.only.form) == (True, "url")
    name.apply(reserve("first", wish=later).release(failure=b"f"), NOW + 5)
    assert (name.only.state, name.only.failure) == ("failed", b"f")
    assert name.only.ends == NOW + 5 + NAMED_SECONDS
    assert Operations((name.only,)).expendable == 2  # a full store may forget it


def test_a_reservation_keeps_the_promise_of_its_claim() -> None:
    name = Name(Operations((running(state="waiting", promised=True, form="url"),)))
    name.apply(reserve("first", wish=named()))
    assert (name.only.state, name.only.promised, name.only.form) == ("running", True, "url")


def test_a_later_request_that_joins_is_promised_the_answer_too() -> None:
    name = Name(Operations((running(),)))
    found = name.apply(claim("second", gateway="there", promised=True, form="b64_json"))
    assert (found.id, found.promised, found.form) == ("first", True, "b64_json")
    assert name.only == found
    name.apply(claim("third", promised=True, form="url"))
    assert name.only.form == "b64_json"
    name = Name(Operations((running(),)))
    name.apply(claim("second", body="pear", promised=True))
    assert not name.only.promised


def test_an_answer_is_promised_only_while_it_is_open() -> None:
    step = Promise(record="n", id="first", form="url")
    name = Name(Operations((running(state="waiting"),)))
    assert name.apply(step) is True
    assert (name.only.promised, name.only.form) == (True, "url")
    name.apply(Unanswered(record="n", id="first", failure=b"f"))
    assert (name.only.state, name.only.failure, name.only.ended) == ("failed", b"f", NOW)
    assert name.apply(step) is False
    assert Name().apply(step) is False


def test_a_new_request_after_a_failure_keeps_the_promise() -> None:
    """Who was promised an answer learns what became of the latest request of the name."""
    name = Name(Operations((running(state="failed", promised=True, form="url", ended=NOW),)))
    assert name.apply(claim("second")).state == "waiting"
    name.apply(claim("second").release())
    assert (name.only.id, name.only.state, name.only.form) == ("second", "failed", "url")


@pytest.mark.parametrize(
    ("state", "seen"),
    [("waiting", ("failed", "")), ("running", ("unknown", "")), ("bought", ("bought", GONE))],
)
def test_nobody_waits_for_ever_for_what_a_store_has_lost(state: Any, seen: tuple[str, str]) -> None:
    """A store that went back shows it as open, and its gateway lives: even this very one."""
    operation = running(state=state, ended=NOW if state == "bought" else 0.0)
    assert as_of(operation, "here", {}, NOW + LEASE - 1) == operation
    found = as_of(operation, "here", {}, NOW + LEASE)
    assert (found.state, found.answer) == seen
