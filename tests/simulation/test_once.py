"""The check finds each purchase that was one too many, and excuses only what is documented."""

from typing import Any

import pytest

from tests.simulation.events import EXPIRED, GAVE_UP, LOST, REPEATED, UNSEEN, Event
from tests.simulation.stories import answered, asked, purchase, trouble, wrong

APPLE: dict[str, Any] = {"prompt": "apple", "fresh": True}
"""Requests without a cache."""


def left(**fields: Any) -> list[Event]:
    """A call whose client leaves after 2 s of 5. It asks again later."""
    return purchase("a", **{**APPLE, "left": 2.0, **fields})


def again(at: float = 10.0, **fields: Any) -> list[Event]:
    """Its second request, which is bought."""
    return purchase("a.1", at, **{**APPLE, "first": "a", **fields})


def new(call: str, at: float) -> list[Event]:
    """A purchase of a request with `no-cache`."""
    return purchase(call, at, **APPLE, wants_new=True)


def unclear(**fields: Any) -> list[Event]:
    return purchase("a", **{**APPLE, "how": "unknown", **fields})


# -- with a cache ----------------------------------------------------------------------------------


def test_bought_again() -> None:
    one = purchase("a", prompt="apple")
    assert "at the same time" in wrong(one, purchase("b", 1.0, prompt="apple"))[0]
    assert "had its answer" in wrong(one, purchase("b", 9.0, prompt="apple"))[0]
    assert wrong(one, purchase("b", 1.0, prompt="apple", fresh=True)) == []
    refused = [*purchase("a", how="refused", drawn=False, prompt="apple")[:-1]]
    joined = answered("a", 15.0, picture="b")
    assert wrong(refused, purchase("b", 9.0, prompt="apple"), joined) == []


def test_another_gateway_may_only_buy_again_while_a_lease_may_be_lost() -> None:
    same = [*purchase("a", prompt="apple"), *purchase("b", 1.0, prompt="apple", gateway="g2")]
    assert wrong(same) != []
    assert wrong(same, trouble("store away", 0.0, 2.0)) == []
    assert wrong(same, trouble("paused", 0.0, 2.0, "g3")) != []
    assert wrong(same, shared=False) == []


# -- more purchases than calls ---------------------------------------------------------------------


def test_a_call_is_bought_once() -> None:
    assert "after ['a']" in wrong(left(), again())[0]
    assert "after ['a']" in wrong(left(), again(3.0))[0]
    assert wrong(left(how="refused", drawn=False), again()) == []
    other_key = purchase("b", 10.0, prompt="apple", key="k2")
    assert wrong(left(), other_key) == []


def test_equal_calls_are_as_many_purchases() -> None:
    assert wrong(*(purchase(f"c{number}", number / 100, **APPLE) for number in range(20))) == []


def test_a_purchase_counts_for_the_call_that_got_its_picture() -> None:
    taken = [asked("b", 7.0, **APPLE), answered("b", 7.1, picture="a")]
    assert wrong(left(), taken, again()) == []
    more = purchase("a.2", 20.0, first="a", **APPLE)
    assert "after ['a', 'a.1']" in wrong(left(), taken, again(left=1.0), more)[0]


def test_a_call_that_had_taken_over_a_purchase_and_left_gives_its_own_one_away() -> None:
    gone = [asked("b", 3.0, **APPLE), answered("b", 4.0, outcome="lost", why=GAVE_UP)]
    assert wrong(left(), gone, again(3.5)) == []
    assert wrong(left(), gone, again(6.0)) != []


@pytest.mark.parametrize(
    ("parts", "rules", "is_excused"),
    [
        # The hold of repeats is over.
        ([left(how="unknown"), again(64.0)], {}, False),
        ([left(how="unknown"), again(65.0)], {}, True),
        ([left(how="unknown"), again(16.0)], {"hold": 10.0}, True),
        ([left(), again(65.0)], {}, False),
        # A later success.
        ([left(how="unknown"), new("b", 6.0), again(12.0)], {}, True),
        (
            [left(how="unknown"), new("b", 4.8), again(12.0)],
            {},
            False,
        ),
        # Its client left unseen.
        ([left()[:-1], answered("a", 2.0, outcome="lost", why=UNSEEN), again()], {}, True),
        ([left()[:-1], answered("a", 2.0, outcome="lost", why=UNSEEN), again(3.0)], {}, True),
        (
            [
                left()[:-1],
                answered("a", 2.0, outcome="lost", why=UNSEEN),
                again(3.0, is_marked=True),
            ],
            {},
            False,
        ),
        # Its answer is out of reach.
        ([left(), again(gateway="g2")], {}, False),
        ([left(), again(gateway="g2")], {"reachable": False}, True),
        ([left(), again()], {"reachable": False}, False),
        ([left(how="unknown"), again(3.0, gateway="g2")], {"reachable": False}, True),
        ([left(how="unknown"), again(gateway="g2")], {"reachable": False}, False),
        # Something stood still or lost data.
        ([left(), again(), trouble("store away", 3.0, 4.0)], {}, True),
        ([left(), again(), trouble("paused", 10.2, 14.0, "g1")], {}, False),
        ([left(), again(30.0), trouble("went back", 10.0, 14.0)], {}, True),
        # Its gateway died: it had the answer, or requests waited, or the hold is over.
        ([left(), again(gateway="g2"), trouble("killed", 6.0, 9.0, "g1")], {}, True),
        ([left(), again(gateway="g2"), trouble("killed", 6.0, 9.0, "g3")], {}, True),
        ([left(), again(20.0, gateway="g2"), trouble("killed", 6.0, 9.0, "g3")], {}, False),
        ([left(), again(8.0, gateway="g2"), trouble("killed", 3.0, 9.0, "g1")], {}, True),
        ([left(), again(9.0, gateway="g2"), trouble("killed", 3.0, 9.0, "g1")], {}, False),
        ([left(), again(9.0, gateway="g2"), trouble("stopped", 1.0, 4.0, "g1")], {}, True),
        ([left(), again(10.0, gateway="g2"), trouble("stopped", 1.0, 4.0, "g1")], {}, False),
        ([left(), again(63.0, gateway="g2"), trouble("killed", 3.0, 9.0, "g1")], {}, True),
        (
            [left(how="unknown"), again(20.0, gateway="g2"), trouble("killed", 6.0, 9.0, "g1")],
            {},
            False,
        ),
    ],
)
def test_what_excuses_a_second_purchase(
    parts: list[Any], rules: dict[str, Any], is_excused: bool
) -> None:
    assert (wrong(*parts, **rules) == []) is is_excused


# -- repeats of unknown outcomes -------------------------------------------------------------------


def test_nobody_buys_what_ended_as_unknown() -> None:
    other = purchase("b", 10.0, **APPLE)
    assert wrong(unclear(), other) == ["b was bought although a ended as unknown"]
    assert wrong(unclear(), purchase("b", 4.0, **APPLE)) == []
    assert wrong(unclear(), new("b", 10.0)) == []
    assert wrong(unclear(wants_new=True), new("b", 10.0)) != []
    assert wrong(unclear(), other, hold=0.0) == []


def refused(at: float, **fields: Any) -> list[Event]:
    refusal = answered("b", at + 0.1, outcome="refused", why=REPEATED)
    return [asked("b", at, **APPLE, **fields), refusal]


def test_only_repeats_of_unknown_outcomes_are_refused_as_such() -> None:
    assert wrong(unclear(), refused(10.0)) == []
    for story in (
        [refused(10.0)],
        [left(), refused(10.0)],
        [unclear(), refused(3.0)],
        [unclear(), refused(66.0)],
        [unclear(key="k2"), refused(10.0)],
        [unclear(), refused(10.0, wants_new=True)],
        [unclear(), new("c", 6.0), refused(12.0)],
    ):
        assert "b was refused as a repeat" in wrong(*story)[0]
    assert wrong(left(), refused(10.0), trouble("paused", 3.0, 9.0, "g1")) == []


# -- pictures --------------------------------------------------------------------------------------


def got(call: str, at: float, picture: str, **fields: Any) -> list[Event]:
    return [asked(call, at, **{**APPLE, **fields}), answered(call, at + 0.1, picture=picture)]


def test_pictures_of_others() -> None:
    assert wrong(left(), got("b", 7.0, "a")) == []
    assert "whose client waited" in wrong(purchase("a", **APPLE), got("b", 7.0, "a"))[-1]
    assert wrong(purchase("a", **APPLE), got("b", 7.0, "a", is_marked=True)) == []
    assert wrong(purchase("a", **APPLE), got("b", 7.0, "a", fresh=False)) == []
    assert "same picture as b" in wrong(left(), got("b", 7.0, "a"), got("c", 8.0, "a"))[0]
    forgotten = trouble("went back", 6.0, 6.5)
    assert wrong(left(), got("b", 7.0, "a"), got("c", 8.0, "a"), forgotten) == []
    asked_anew = got("b", 7.0, "a", wants_new=True)
    assert "asked for a new picture" in wrong(left(), asked_anew)[0]
    assert wrong(left(wants_new=True), asked_anew) == []
    assert "of another key" in wrong(left(), got("b", 7.0, "a", key="k2"))[0]
    assert "another request" in wrong(left(), got("b", 7.0, "a", prompt="pear"))[0]


# -- names -----------------------------------------------------------------------------------------


def test_a_name_is_bought_once_and_has_one_picture() -> None:
    one = purchase("a", **APPLE, name="n")
    other = purchase("b", 9.0, **APPLE, name="n")
    assert "['a', 'b'] were bought under one name" in wrong(one, other)
    assert "bought under one name" in wrong(one, other, trouble("killed", 1.0, 2.0, "g1"))[-1]
    assert wrong(one, other, trouble("went back", 1.0, 2.0)) == []
    assert wrong(purchase("a", **APPLE, name="n", how="refused", drawn=False), other) == []
    assert wrong(one, purchase("b", 9.0, **APPLE, name="m")) == []
    assert wrong(one, got("b", 9.0, "a", name="n"), got("c", 9.0, "a", name="n")) == []
    assert "under another name" in wrong(one, got("b", 9.0, "a"))[0]


def test_the_failure_of_a_name_lasts_and_concerns_no_other() -> None:
    one = purchase("a", **APPLE, name="n", how="unknown")
    assert wrong(one, refused(3_000.0, name="n")) == []
    assert "b was refused as a repeat" in wrong(one, refused(10.0))[0]
    assert "b was refused as a repeat" in wrong(one, refused(10.0, name="m"))[0]
    assert wrong(one, again(10.0, name="m")) == []


def test_the_answer_of_a_name_is_there() -> None:
    one = purchase("a", **APPLE, name="n")
    gone = [asked("b", 9.0, **APPLE, name="n"), answered("b", 9.1, outcome="failed", why=EXPIRED)]
    assert wrong(one, gone) == ["b did not get the answer under its name"]
    assert wrong(one, gone, reachable=False) == []


def test_who_is_told_to_ask_later_gets_something() -> None:
    lost = [asked("b", 9.0, **APPLE, name="n"), answered("b", 11.0, outcome="failed", why=LOST)]
    assert wrong(lost) == ["b was promised an answer, and nobody knows of it"]
    assert wrong(lost, trouble("failed over", 1.0, 2.0)) == []


def test_nobody_waits_in_vain() -> None:
    waits = [asked("a"), answered("a", 300.0, outcome="lost", why=GAVE_UP)]
    assert wrong(waits) == ["a waited in vain"]
