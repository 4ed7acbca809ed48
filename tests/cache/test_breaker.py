"""The breaker: when something that failed is tried again, and by how many."""

from gateway.cache.breaker import Breaker
from tests.support.clocks import Clock


def standing() -> Clock:
    return Clock(lambda: 0.0)


def test_what_works_is_always_tried() -> None:
    breaker = Breaker(1.0, standing())
    for _ in range(3):
        assert breaker.allows()
        assert not breaker.worked()
    assert not breaker.resting


def test_after_a_failure_nobody_tries_for_a_while() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    breaker.failed()
    for clock.ahead in (0.0, 0.5, 0.99):
        assert breaker.resting
        assert not breaker.allows()


def test_then_one_tries_at_a_time() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    breaker.failed()
    clock.ahead = 1.0
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    breaker.worked()
    assert all(breaker.allows() for _ in range(5))


def test_one_who_never_says_what_came_of_it_is_not_waited_for() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    breaker.failed()
    clock.ahead = 1.0
    assert breaker.allows()
    clock.ahead = 2.0
    assert breaker.allows()


def test_an_outage_begins_and_ends_once() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    assert [breaker.failed() for _ in range(3)] == [True, False, False]
    clock.ahead = 1.0
    assert breaker.allows()
    assert not breaker.failed()
    assert [breaker.worked() for _ in range(3)] == [True, False, False]
    assert breaker.failed()
