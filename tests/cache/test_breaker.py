"""The circuit breaker: when attempts are allowed after a failure, and how many."""

import pytest

from gateway.cache.breaker import Breaker
from tests.conformance.store import Wall


@pytest.fixture
def clock() -> Wall:
    return Wall(0.0)


@pytest.fixture
def breaker(clock: Wall) -> Breaker:
    return Breaker(1.0, clock)


def test_without_failures_every_attempt_is_allowed(breaker: Breaker) -> None:
    for _ in range(3):
        assert breaker.allows()
        assert not breaker.worked()
    assert not breaker.resting


def test_after_a_failure_no_attempt_is_allowed_for_a_while(breaker: Breaker, clock: Wall) -> None:
    breaker.failed()
    for clock.now in (0.0, 0.5, 0.99):
        assert breaker.resting
        assert not breaker.allows()


def test_then_one_attempt_at_a_time_is_allowed(breaker: Breaker, clock: Wall) -> None:
    breaker.failed()
    for clock.now in (1.0, 2.0):  # the first attempt has no result: it does not block the second
        assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]
    breaker.worked()
    assert all(breaker.allows() for _ in range(5))


def test_an_outage_begins_and_ends_once(breaker: Breaker, clock: Wall) -> None:
    assert [breaker.failed() for _ in range(3)] == [True, False, False]
    clock.now = 1.0
    assert breaker.allows()
    assert not breaker.failed()
    assert [breaker.worked() for _ in range(3)] == [True, False, False]
    assert breaker.failed()
