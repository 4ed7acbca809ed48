"""Wrong tokens: a burst is answered at once, and each further one waits behind those before."""

import pytest

from gateway.web.admin.throttle import (
    BURST,
    LONGEST_SECONDS,
    MOST_NETWORKS,
    SECONDS_EACH,
    SIGN_IN,
    TOTAL_BURST,
    TOTAL_SECONDS_EACH,
    Throttle,
)
from tests.support.clocks import Clock

HOME = "192.0.2.1"


def throttle() -> tuple[Throttle, Clock]:
    clock = Clock(lambda: 0.0)
    return Throttle(clock), clock


def failed(guesses: Throttle, address: str = HOME) -> float:
    """Use up the burst of a network, and return the delay of a further wrong token."""
    for _ in range(BURST):
        assert guesses.fail(address) == 0
    return guesses.fail(address)


def test_after_a_burst_each_wrong_token_waits_behind_the_ones_before() -> None:
    guesses, clock = throttle()
    assert failed(guesses) == SECONDS_EACH
    assert guesses.fail(HOME) == 2 * SECONDS_EACH
    clock.ahead += 2.5 * SECONDS_EACH
    assert guesses.fail(HOME) == SECONDS_EACH / 2
    clock.ahead += 1.5 * SECONDS_EACH
    assert guesses.fail(HOME) == 0


def test_a_long_pause_allows_no_more_than_a_burst() -> None:
    guesses, clock = throttle()
    clock.ahead += 1_000_000
    assert failed(guesses) == SECONDS_EACH


def test_a_flood_delays_nothing_longer_than_the_longest_delay() -> None:
    guesses, clock = throttle()
    assert max(guesses.fail(HOME) for _ in range(100_000)) == LONGEST_SECONDS
    clock.ahead += LONGEST_SECONDS
    assert guesses.fail(HOME) <= SECONDS_EACH


def test_a_wrong_sign_in_counts_like_several_wrong_bearer_tokens() -> None:
    guesses, _ = throttle()
    assert [guesses.fail(HOME, SIGN_IN) for _ in range(BURST // SIGN_IN)] == [0] * (
        BURST // SIGN_IN
    )
    assert guesses.fail(HOME) == SECONDS_EACH


def test_another_network_has_a_burst_of_its_own() -> None:
    guesses, _ = throttle()
    assert failed(guesses) > 0
    assert guesses.fail("192.0.2.2") == 0


def test_all_networks_together_have_one_pace() -> None:
    guesses, clock = throttle()
    delays = [guesses.fail(f"192.0.2.{number}") for number in range(TOTAL_BURST + 2)]
    assert delays[:TOTAL_BURST] == [0] * TOTAL_BURST
    assert delays[TOTAL_BURST:] == pytest.approx([TOTAL_SECONDS_EACH, 2 * TOTAL_SECONDS_EACH])
    clock.ahead += (TOTAL_BURST + 2) * TOTAL_SECONDS_EACH
    assert guesses.fail("192.0.2.200") == 0


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
    guesses, _ = throttle()
    failed(guesses, one)
    assert (guesses.fail(other) > 0) == same


def test_the_oldest_failure_is_forgotten_first() -> None:
    clock = Clock(lambda: 0.0)
    guesses = Throttle(clock)
    networks = [f"client-{number}" for number in range(MOST_NETWORKS)]
    for network in networks[:3]:
        failed(guesses, network)
        clock.ahead += BURST * TOTAL_SECONDS_EACH
    for network in networks[3:]:
        guesses.fail(network)
    guesses.fail(networks[0])
    guesses.fail("one more")
    assert len(guesses) == MOST_NETWORKS
    assert networks[0] in guesses
    assert networks[1] not in guesses
    assert networks[2] in guesses
