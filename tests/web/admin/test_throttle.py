"""Wrong tokens: the first are answered at once, then one every few seconds."""

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
from tests.support.clocks import Clock


def test_after_the_first_wrong_tokens_each_has_to_wait() -> None:
    clock = Clock(lambda: 0.0)
    guesses = Throttle(clock)
    assert [guesses.fail() for _ in range(BURST)] == [None] * BURST
    assert guesses.fail() == SECONDS_EACH
    clock.ahead += SECONDS_EACH / 2
    assert guesses.fail() == SECONDS_EACH / 2
    clock.ahead += SECONDS_EACH / 2
    assert guesses.fail() is None
    assert guesses.fail() == SECONDS_EACH


def test_a_long_pause_refills_no_more_than_the_first_allowance() -> None:
    clock = Clock(lambda: 0.0)
    guesses = Throttle(clock)
    clock.ahead += 1_000_000
    assert [guesses.fail() for _ in range(BURST)] == [None] * BURST
    assert guesses.fail() is not None


def test_only_the_address_of_the_wrong_tokens_waits() -> None:
    clock = Clock(lambda: 0.0)
    guesses = AddressThrottle(clock)
    assert guesses.wait("192.0.2.1") is None
    for _ in range(ADDRESS_BURST):
        assert guesses.wait("192.0.2.1") is None
        guesses.fail("192.0.2.1")
    assert guesses.wait("192.0.2.1") == ADDRESS_SECONDS_EACH
    assert guesses.wait("192.0.2.2") is None
    clock.ahead += ADDRESS_SECONDS_EACH
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
def test_a_network_of_one_client_counts_as_one_address(one: str, other: str, same: bool) -> None:
    guesses = AddressThrottle(Clock(lambda: 0.0))
    for _ in range(ADDRESS_BURST):
        guesses.fail(one)
    assert (guesses.wait(other) is not None) == same


def test_the_oldest_failure_is_forgotten_first() -> None:
    guesses = AddressThrottle(Clock(lambda: 0.0))
    names = [f"client-{number}" for number in range(MOST_ADDRESSES)]
    for name in names:
        for _ in range(ADDRESS_BURST):
            guesses.fail(name)
    guesses.fail(names[0])
    guesses.fail("one more")
    assert guesses.wait(names[0]) is not None
    assert guesses.wait(names[1]) is None
    assert guesses.wait(names[2]) is not None
