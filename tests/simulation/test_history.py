"""The check of a history finds each kind of broken promise, and excuses only what is documented."""

from msgspec.structs import replace

from gateway.core.model import Limits
from tests.simulation.events import Answered, Asked, Ended, Received, Rules
from tests.simulation.stories import NOON, PRICE, books, found, purchase, trouble


def limited(**limits: int) -> Rules:
    return Rules(limits={("team", "red"): Limits(**limits)}, lease=305.0, shared=True)


def test_a_good_run() -> None:
    events = [*purchase("a"), *purchase("b", 1.0, how="refused", drawn=False)]
    assert found(events, books(1)) == []
    assert found(events, books(1), limited(images_per_day=1, concurrent_requests=2)) == []


def test_limits() -> None:
    events = [*purchase("a"), *purchase("b", 1.0)]
    for rules, word in (
        (limited(images_per_day=1), "images 2"),
        (limited(cost_per_month=PRICE), "cost 80000"),
        (limited(requests_per_minute=1), "in a minute"),
        (limited(concurrent_requests=1), "in flight"),
    ):
        assert word in found(events, books(2), rules)[0]


def test_a_purchase_over_midnight_counts_for_no_day_against_the_limit() -> None:
    midnight = 12 * 3600.0
    events = [*purchase("a", midnight - 0.05), *purchase("b", midnight + 1.0)]
    assert found(events, books(2), limited(images_per_day=1)) == []


def test_books() -> None:
    assert "are recorded" in found(purchase("a"), books(0))[0]
    assert "left open" in found(purchase("a"), books(1, holds=1))[0]
    assert "are recorded as bought" in found(purchase("a"), books(2))[0]
    assert "can be explained" in found(purchase("a"), books(2, unknown=1))[0]


def test_an_unclear_end_and_a_death_explain_unknown_charges() -> None:
    assert found(purchase("a", how="unknown", drawn=False), books(1, unknown=1)) == []
    killed = trouble("killed", 2.0, 4.0, "g1")
    assert found([*purchase("a"), killed], books(1, unknown=1)) == []
    assert found([*purchase("a"), trouble("paused", 2.0, 4.0, "g1")], books(1, unknown=1)) != []


def test_a_call_that_was_lost_on_its_way_explains_an_unknown_charge() -> None:
    asked, *_, answered = purchase("a", how="unknown", drawn=False)
    lost = Ended(at=2.0, clock=NOON + 2.0, call="a", how="unknown")
    assert found([asked, lost, answered], books(1, unknown=1)) == []
    assert found([asked, answered], books(1, unknown=1)) != []


def test_what_a_store_lost_is_excused_and_nothing_else() -> None:
    back = trouble("went back", 3.0, 6.0)
    assert found([*purchase("a"), back], books(0)) == []
    assert found([*purchase("a"), trouble("failed over", 3.0, 6.0)], books(0)) != []
    assert found([*purchase("a", 20.0), back], books(0)) != []
    # It is settled after the store went back: then it has to be charged again.
    late = purchase("a", seconds=30.0)
    assert found([*late, back], books(0)) != []
    # Unless its gateway dies before it can.
    assert found([*late, back, trouble("killed", 33.0, 40.0, "g1")], books(0)) == []
    assert found([*late, back, trouble("killed", 40.0, 50.0, "g1")], books(0)) != []
    cut = trouble("cut off", 28.0, 41.0, "g1")
    assert found([*late, back, cut, trouble("killed", 40.0, 50.0, "g1")], books(0)) == []


def test_answers() -> None:
    asked = Asked(
        at=0.0, clock=NOON, call="a", team="red", key="k", prompt="p", images=2, gateway="g"
    )
    few = Answered(at=1.0, clock=NOON, call="a", outcome="images", images=1)
    problems = found([asked, few], books(0))
    assert "asked for 2 images and got 1" in problems[0]
    assert "nobody drew" in problems[1]


def test_a_refusal_buys_nothing() -> None:
    events = purchase("a", how="refused", drawn=False)[:-1]
    refused = Answered(at=6.0, clock=NOON, call="a", outcome="refused", why="insufficient_quota")
    assert "but sent" in found([*events, refused], books(0))[0]
    drained = Answered(at=6.0, clock=NOON, call="a", outcome="failed", why="draining")
    assert "but sent" in found([*events, drained], books(0))[0]
    assert found([*events, drained, trouble("stopped", 5.0, 6.0, "g1")], books(0)) == []


def test_one_call_is_sent_once() -> None:
    again = Received(at=2.0, clock=NOON, call="a")
    assert "twice" in found([*purchase("a"), again], books(1))[0]


def test_a_limit_may_be_passed_by_the_excess_of_an_upstream_and_no_more() -> None:
    for rules in (limited(images_per_day=2), limited(cost_per_month=2 * PRICE)):
        both = [*purchase("a", excess=3), *purchase("b", 1.0)]
        assert found(both, books(5), rules) == []
        assert found([*both, *purchase("c", 2.0)], books(6), rules) != []
        # It was settled when the next one was asked for.
        for start, word in ((9.0, []), (11.0, ["limit"])):
            later = found([*purchase("a", excess=1), *purchase("b", start)], books(3), rules)
            assert [text.split()[-2] for text in later] == word
        away = [*both, *purchase("c", 11.0), trouble("store away", 9.0, 12.0)]
        assert found(away, books(6), limited(images_per_day=3)) == []


def test_excess_is_charged_unless_nobody_could_read_it() -> None:
    assert "6 were bought, 1 are recorded" in found(purchase("a", excess=5), books(1))[0]
    unread = purchase("a", excess=5, how="unknown")
    assert found(unread, books(1, unknown=1)) == []
    assert found(unread, books(0)) != []
    for kind, gateway, is_excused in (
        ("killed", "g1", True),
        ("stopped", "g1", True),
        ("killed", "g2", False),
        ("paused", "g1", False),
    ):
        events = [*purchase("a", excess=5), trouble(kind, 2.0, 4.0, gateway)]  # type: ignore[arg-type]
        assert (not found(events, books(1))) == is_excused


def test_excess_reaches_the_client() -> None:
    *events, answered = purchase("a", excess=2)
    assert found([*events, answered], books(3)) == []
    (problem,) = found([*events, replace(answered, images=1)], books(3))
    assert "asked for 1 images and got 1" in problem
