"""What may have been unclear to a gateway, and what may not."""

from typing import Any

from tests.chaos.judge import NO_CONNECTION, Clock, Disturbed, upstream_events
from tests.chaos.upstream import Seen
from tests.simulation.events import Answered, Asked, Ended, Event, Received

TIMEOUT = 2.0


def judged(
    *disturbances: Disturbed, arrived: bool = True, ends: float = 1.3, **answer: Any
) -> list[Event]:
    """The events of a call that is asked at 1.0 and, if it arrived, drawn and delivered whole."""
    clock = Clock()
    fields: dict[str, Any] = clock.times(1.0)
    asked = Asked(**fields, call="a", team="t", key="k", prompt="p", images=1, gateway="g")
    answered = Answered(**{**clock.times(1.4), "call": "a", "outcome": "failed", **answer})
    seen = [
        Seen(at=1.1, call="a", has_ended=False, images_drawn=0, status=0, delivered=False),
        Seen(at=ends, call="a", has_ended=True, images_drawn=1, status=200, delivered=True),
    ]
    lines = seen if arrived else []
    return list(upstream_events(lines, [asked, answered], disturbances, clock, TIMEOUT))


def how(events: list[Event]) -> list[str]:
    return [event.how for event in events if isinstance(event, Ended)]


def test_a_delivered_answer_is_only_unclear_if_something_was_disturbed() -> None:
    cut = Disturbed(at=1.2, until=1.2, kind="cut")
    assert how(judged(why="upstream_cut")) == ["delivered"]
    assert how(judged(cut, why="upstream_cut")) == ["unknown"]
    assert how(judged(cut, outcome="images")) == ["delivered"]
    other = Disturbed(at=1.2, until=1.2, gateway="another")
    assert how(judged(other, why="upstream_cut")) == ["delivered"]
    assert how(judged(Disturbed(at=5.0, until=6.0), why="upstream_cut")) == ["delivered"]


def test_a_call_that_never_arrived_may_be_lost_only_if_something_was_disturbed() -> None:
    cut = Disturbed(at=1.2, until=1.2, kind="cut")
    assert how(judged(cut, arrived=False, why="upstream_cut")) == ["unknown"]
    assert judged(arrived=False, why="upstream_cut") == []
    assert judged(cut, arrived=False, outcome="lost", why=NO_CONNECTION) == []
    assert judged(cut, arrived=False, outcome="refused", why="insufficient_quota") == []


def test_a_call_ends_when_its_connection_is_cut_or_the_gateway_gives_up() -> None:
    (cut,) = [
        event
        for event in judged(Disturbed(at=1.2, until=1.2, kind="cut"), outcome="lost")
        if isinstance(event, Ended)
    ]
    assert cut.at == 1.2
    late = [event.at for event in judged(ends=9.0) if isinstance(event, Ended)]
    assert late[0] < 1.1 + TIMEOUT
    stalled = Disturbed(at=0.5, until=9.0, kind="stalled")
    received = [event.at for event in judged(stalled) if isinstance(event, Received)]
    assert received == [1.1]


def test_the_stores_clock_jumps_ahead() -> None:
    clock = Clock()
    clock.jump(5.0, 70.0)
    assert clock.times(4.0) == {"at": 4.0, "clock": 4.0}
    assert clock.times(6.0) == {"at": 6.0, "clock": 76.0}
