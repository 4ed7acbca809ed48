"""What a request finds before it is bought, and how operations change."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.quota.operations import (
    KEEP_SECONDS,
    LEASE_SECONDS,
    MOST_BOUGHT,
    NONE,
    Found,
    Operation,
    Operations,
    Repeat,
    Wish,
    begun,
    bought,
    claimed,
    delivered,
    find,
    left,
    others,
    unknown,
    without,
)
from gateway.quota.step import record_change
from tests.support.quota_steps import wish

NOW = 1_772_366_400.0


def operation(id: str = "first", **fields: Any) -> Operation:
    """An operation of gateway "here" that was reserved ten seconds ago."""
    values = {"request": "r", "gateway": "here", "at": NOW - 10, "lease": NOW + 295, **fields}
    return Operation(id=id, **values)


def record(*operations: Operation, **fields: Any) -> Operations:
    return Operations(operations, **fields)


def unclear(id: str = "first", *, ago: float = 1.0, **fields: Any) -> Operation:
    return operation(id, state="unknown", ended=NOW - ago, **fields)


def found(operations: Operations, asked: Wish) -> str:
    """What becomes of the request: bought, refused as a repeat, or the operation taken over."""
    match find(operations, asked, "new", NOW):
        case None:
            return "bought"
        case Repeat():
            return "repeat"
        case Found(operation=taken):
            return taken.id


RETRY, FRESH = wish(is_retry=True), wish(fresh=True)
BOUGHT_AND_LEFT = operation(state="bought", ended=NOW - 1, left=True)


@pytest.mark.parametrize(
    ("operations", "asked", "becomes"),
    [
        ([], wish(), "bought"),
        # Running, and its client waits.
        ([operation()], wish(), "bought"),
        ([operation()], FRESH, "bought"),
        ([operation()], RETRY, "first"),
        # Its client left.
        ([operation(left=True)], wish(), "first"),
        ([BOUGHT_AND_LEFT], wish(), "first"),
        ([BOUGHT_AND_LEFT], RETRY, "first"),
        ([replace(BOUGHT_AND_LEFT, lease=NOW - 1)], wish(), "first"),
        ([operation(state="bought", ended=NOW - KEEP_SECONDS, left=True)], wish(), "bought"),
        ([operation(state="bought", ended=NOW - 1)], RETRY, "bought"),
        ([unclear(left=True)], RETRY, "repeat"),
        # New images.
        ([operation(left=True)], FRESH, "bought"),
        ([operation(left=True, fresh=True)], FRESH, "first"),
        ([operation(left=True, fresh=True), operation("plain", left=True)], wish(), "plain"),
        ([operation(left=True, fresh=True)], wish(), "first"),
        ([operation(left=True)], wish(fresh=True, is_retry=True), "first"),
        # The oldest one whose client left comes first, and only one request gets it.
        ([operation(), operation("second", left=True)], RETRY, "second"),
        ([operation(left=True), operation("second", left=True)], wish(), "first"),
        ([operation(left=True, claim="x", claimant="here")], wish(), "bought"),
        ([operation(left=True, claim="x", claimant="here")], RETRY, "bought"),
        # Retries of one client may follow each other unseen.
        ([operation(claim="x", claimant="here", retried=True)], RETRY, "first"),
        ([operation(claim="x", claimant="here", retried=True)], wish(), "bought"),
        ([operation(state="bought", ended=NOW - 1, retried=True)], RETRY, "first"),
        ([operation(state="bought", ended=NOW - 1, retried=True)], wish(), "bought"),
        ([operation(claim="x", claimant="here"), operation("second")], RETRY, "second"),
        ([operation(claim="new", claimant="here", claimed=NOW)], wish(), "first"),
        # Another gateway.
        ([operation(left=True, gateway="there", at=NOW - 4)], wish(), "first"),
        ([operation(left=True, gateway="there", at=NOW - 4)], wish(shared=False), "bought"),
        ([operation(left=True, gateway="there")], wish(), "repeat"),
        ([operation(left=True, gateway="there")], wish(alive={"there": NOW + 1}), "first"),
        ([operation(left=True, gateway="there")], wish(alive={"there": NOW - 1}), "repeat"),
        # Its hold was swept. It was written again by a store that went back.
        (
            [operation(left=True, gateway="there", lease=NOW)],
            wish(alive={"there": NOW + 1}),
            "repeat",
        ),
        ([operation(left=True, lease=NOW)], wish(), "repeat"),
        ([operation(left=True, gateway="there")], wish(alive={"there": NOW}, age=1.0), "bought"),
        ([operation(state="bought", ended=NOW - 6, left=True, gateway="there")], wish(), "bought"),
        (
            [operation(left=True, claim="x", claimant="there", claimed=NOW - LEASE_SECONDS)],
            wish(),
            "first",
        ),
        ([operation(left=True, claim="x", claimant="there", claimed=NOW - 4)], wish(), "bought"),
        # Repeats.
        ([unclear()], wish(), "repeat"),
        ([unclear()], RETRY, "repeat"),
        ([unclear(ago=59.9)], wish(), "repeat"),
        ([unclear(ago=60.0)], wish(), "bought"),
        ([unclear(ago=60.0)], wish(hold_seconds=61.0), "repeat"),
        ([unclear()], wish(hold_seconds=0.0), "bought"),
        ([unclear()], wish(age=1.0), "repeat"),
        ([unclear()], wish(age=1.5), "bought"),
        # The death of its gateway makes an outcome no later.
        ([unclear(ago=60.0, gateway="there")], wish(), "bought"),
        ([unclear()], FRESH, "bought"),
        ([unclear(fresh=True)], FRESH, "repeat"),
        ([unclear(fresh=True)], wish(), "repeat"),
        ([unclear(), operation("second", left=True)], wish(), "second"),
        ([unclear(), operation("second")], wish(), "repeat"),
    ],
)
def test_what_a_request_finds(operations: list[Operation], asked: Wish, becomes: str) -> None:
    assert found(record(*operations), asked) == becomes


def test_a_lost_answer_is_not_found_again() -> None:
    operations = record(BOUGHT_AND_LEFT)
    again = wish(gone=frozenset({"first"}))
    assert found(operations, again) == "bought"
    begun_again = begun(operations, again, "new", NOW, NOW + 305)
    assert [each.id for each in begun_again.all] == ["new"]
    # It stays unknown for others, and the claim ends.
    dead = record(operation(gateway="there", claim="old", claimant="here", claimed=NOW))
    assert begun(dead, again, "new", NOW, NOW + 305).all[0].claim == ""
    assert [each.id for each in begun(dead, again, "new", NOW, NOW + 305).all] == ["first", "new"]
    # Others keep what they claimed.
    other = record(operation("other", left=True, claim="old", claimant="here", claimed=NOW))
    assert begun(other, again, "new", NOW, NOW + 305).all[:1] == other.all


def test_of_several_unclear_outcomes_the_latest_refuses_longest() -> None:
    operations = record(unclear(ago=30.0), unclear("second", ago=5.0))
    assert find(operations, wish(), "new", NOW) == Repeat(operations.all[1], 55.0)


def test_a_later_success_clears_unclear_outcomes_from_before() -> None:
    operations = record(unclear(ago=5.0), operation("early", at=NOW - 6), unclear("late", ago=1.0))
    after = bought(operations, operation("early"), NOW, cached=False)
    assert [each.id for each in after.all] == ["first", "late"]  # it began before both had ended
    later = bought(operations, operation("new", at=NOW - 2), NOW, cached=False)
    assert [each.id for each in later.all] == ["early", "late"]
    dead = record(operation(gateway="there", at=NOW - 60))
    assert found(dead, wish(hold_seconds=100.0)) == "repeat"
    assert found(bought(dead, operation("x"), NOW, cached=False), wish()) == "bought"
    # It began at the moment of the end, of one in the record or of one whose gateway died.
    after = bought(operations, operation("new", at=NOW - 1), NOW, cached=False)
    assert [each.id for each in after.all] == ["early"]
    lease_end = operation("x", at=NOW - 60 + LEASE_SECONDS)
    assert found(bought(dead, lease_end, NOW, cached=False), wish(hold_seconds=100.0)) == "bought"


def test_an_operation_from_its_reservation_to_its_delivery() -> None:
    operations = begun(NONE, wish(), "first", NOW, NOW + 305)
    (running,) = operations.all
    expected = operation(request="r2", at=NOW, lease=NOW + 305)
    assert running == expected
    assert begun(NONE, FRESH, "first", NOW, NOW + 305).all == (replace(expected, fresh=True),)
    assert bought(operations, running, NOW, cached=False).all == ()  # its client gets the answer
    operations = left(operations, "first")
    assert bought(operations, running, NOW, cached=True).all == ()  # everybody finds the answer
    operations = bought(operations, running, NOW + 5, cached=False)
    (whole,) = operations.all
    assert (whole.state, whole.ended, operations.expendable) == ("bought", NOW + 5, 1)
    operations = claimed(operations, whole, wish(), "second", NOW + 6)
    assert delivered(operations, "other") == operations
    assert delivered(operations, "second").all == ()


def test_a_claim_is_given_back() -> None:
    before = record(operation(left=True))
    operations = claimed(before, before.all[0], wish(), "second", NOW)
    assert left(operations, "second") == before
    assert without(operations, "second") == before  # the request failed before it got anything
    assert left(operations, "other") == operations
    # Its own client leaves: the other one still waits.
    assert left(operations, "first").all[0].claim == "second"


def test_an_operation_whose_own_client_waits_is_given_back_to_retries_alone() -> None:
    operations = claimed(record(operation()), operation(), RETRY, "second", NOW)
    operations = left(operations, "second")
    assert (found(operations, wish()), found(operations, RETRY)) == ("bought", "first")
    whole = bought(operations, operation(), NOW - 1, cached=False)
    assert (found(whole, wish()), found(whole, RETRY)) == ("bought", "first")
    # Then its own client leaves, too, while a retry has it or not.
    again = claimed(operations, operations.all[0], RETRY, "third", NOW)
    for left_too in (left(operations, "first"), left(left(again, "first"), "third")):
        assert found(left_too, wish()) == "first"
    dead = record(operation(claim="x", claimant="there", claimed=NOW - LEASE_SECONDS))
    assert found(dead, wish()) == "bought"


def test_a_client_that_leaves_while_its_answer_is_sent_brings_the_operation_back() -> None:
    whole = operation(state="bought", ended=NOW)
    assert left(NONE, "first", whole) == record(operation(state="bought", ended=NOW, left=True))
    assert left(NONE, "first") == NONE  # it failed for certain


@pytest.mark.parametrize("running", [operation(), operation(left=True)])
def test_a_change_that_is_applied_again_changes_nothing(running: Operation) -> None:
    operations = record(running)
    ended = bought(operations, running, NOW, cached=False)
    assert bought(ended, running, NOW, cached=False).all == ended.all
    unclear_one = unknown(operations, running, NOW, b"failure")
    assert unknown(unclear_one, running, NOW + 5, b"other") == unclear_one
    gone = left(operations, "first")
    assert left(gone, "first") == gone
    assert without(without(operations, "first"), "first").all == ()


def test_an_outcome_that_the_store_had_lost_is_noted_all_the_same() -> None:
    assert unknown(NONE, operation(), NOW, b"f").all == (
        operation(state="unknown", ended=NOW, failure=b"f"),
    )


def test_only_so_many_bought_operations_are_kept_and_never_others_removed() -> None:
    operations = record(operation("running"), operation("dead", gateway="there"))
    for number in range(MOST_BOUGHT + 5):
        one = operation(f"b{number}", at=NOW - 5 + number / 1000, left=True)
        operations = bought(record(*operations.all, one), one, NOW, cached=False)
    states = [each.state for each in operations.all]
    assert (states.count("bought"), states.count("running")) == (MOST_BOUGHT, 2)
    assert "b4" not in [each.id for each in operations.all]
    assert "b5" in [each.id for each in operations.all]
    assert not operations.expendable


def test_the_gateways_that_matter_are_the_other_ones() -> None:
    operations = record(
        operation(gateway="there"),
        operation("second", claim="x", claimant="elsewhere"),
        unclear("third", gateway="dead"),
    )
    assert others(operations, "here") == {"there", "elsewhere"}


def test_a_record_ends_when_its_last_operation_is_forgotten() -> None:
    assert record(BOUGHT_AND_LEFT).ends == NOW - 1 + KEEP_SECONDS
    assert record(BOUGHT_AND_LEFT, unclear("second")).ends == NOW - 1 + 3_600
    assert record(operation()).ends == NOW + 295 + 3_600
    assert NONE.ends == 0.0


def test_a_retry_takes_nothing_from_a_request_that_is_no_retry() -> None:
    operations = claimed(record(operation(left=True)), operation(left=True), RETRY, "one", NOW)
    operations = left(operations, "one")
    operations = claimed(operations, operations.all[0], wish(), "two", NOW)
    assert found(operations, RETRY) == "bought"


def test_a_record_is_written_only_if_something_changed() -> None:
    running, cleared = record(operation()), record(operation(), succeeded=NOW)
    assert record_change("a", running, record(operation())) == {}
    assert record_change("a", running, cleared) == {"a": cleared}
    assert record_change("a", running, NONE) == {"a": NONE}
    # Without operations there is no record.
    assert record_change("a", NONE, record(succeeded=NOW)) == {}
