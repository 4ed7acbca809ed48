"""Wrong tokens: some are answered at once, then one every few seconds."""

import pytest

from gateway.web.admin.throttle import (
    ADDRESS_BURST,
    ADDRESS_SECONDS_EACH,
    BURST,
    MOST_ADDRESSES,
    SECONDS_EACH,
    AddressThrottle,
    Throttle,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_some_are_free_then_each_has_to_wait() -> None:
    clock = Clock()
    guesses = Throttle(clock)
    assert [guesses.fail() for _ in range(BURST)] == [None] * BURST
    assert guesses.fail() == SECONDS_EACH
    clock.now += SECONDS_EACH / 2
    assert guesses.fail() == SECONDS_EACH / 2
    clock.now += SECONDS_EACH / 2
    assert guesses.fail() is None
    assert guesses.fail() == SECONDS_EACH


def test_after_a_long_time_there_are_no_more_than_at_first() -> None:
    clock = Clock()
    guesses = Throttle(clock)
    clock.now += 1_000_000
    assert [guesses.fail() for _ in range(BURST)] == [None] * BURST
    assert guesses.fail() is not None


def test_an_address_that_was_wrong_too_often_waits_and_no_other_does() -> None:
    clock = Clock()
    guesses = AddressThrottle(clock)
    assert guesses.wait("192.0.2.1") is None
    for _ in range(ADDRESS_BURST):
        assert guesses.wait("192.0.2.1") is None
        guesses.fail("192.0.2.1")
    assert guesses.wait("192.0.2.1") == ADDRESS_SECONDS_EACH
    assert guesses.wait("192.0.2.2") is None
    clock.now += ADDRESS_SECONDS_EACH
    assert guesses.wait("192.0.2.1") is None
    guesses.fail("192.0.2.1")
    assert guesses.wait("192.0.2.1") == ADDRESS_SECONDS_EACH


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "192.0.2.2", False),
        ("", "", True),
    ],
    ids=["64 bits", "beyond 64", "zone", "mapped", "mapped other", "unknown"],
)
def test_who_has_a_whole_network_is_one_address(one: str, other: str, same: bool) -> None:
    guesses = AddressThrottle(Clock())
    for _ in range(ADDRESS_BURST):
        guesses.fail(one)
    assert (guesses.wait(other) is not None) == same


def test_the_address_that_was_wrong_longest_ago_is_forgotten_first() -> None:
    guesses = AddressThrottle(Clock())
    names = [f"client-{number}" for number in range(MOST_ADDRESSES)]
    for name in names:
        for _ in range(ADDRESS_BURST):
            guesses.fail(name)
    guesses.fail(names[0])
    guesses.fail("one more")
    assert guesses.wait(names[0]) is not None
    assert guesses.wait(names[1]) is None
    assert guesses.wait(names[2]) is not None
