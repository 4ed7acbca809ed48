"""The circuit breaker: when attempts are allowed after a failure, and how many."""

from gateway.cache.breaker import Breaker
from tests.support.clocks import Clock


def standing() -> Clock:
    return Clock(lambda: 0.0)


def test_without_failures_every_attempt_is_allowed() -> None:
    breaker = Breaker(1.0, standing())
    for _ in range(3):
        assert breaker.allows()
        assert not breaker.worked()
    assert not breaker.resting


def test_after_a_failure_no_attempt_is_allowed_for_a_while() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    breaker.failed()
    for clock.ahead in (0.0, 0.5, 0.99):
        assert breaker.resting
        assert not breaker.allows()


def test_then_one_attempt_at_a_time_is_allowed() -> None:
    clock = standing()
    breaker = Breaker(1.0, clock)
    breaker.failed()
    clock.ahead = 1.0
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    breaker.worked()
    assert all(breaker.allows() for _ in range(5))


def test_an_attempt_without_a_result_does_not_block_the_next() -> None:
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
