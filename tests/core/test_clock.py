"""The clock that the gateways of one store share."""

import time

from gateway.core.clock import PROMPT_SECONDS, SharedClock, since_boot
from tests.conformance.store import Wall


def test_it_is_the_local_clock_until_the_first_correction() -> None:
    wall = Wall(1000.0)
    clock = SharedClock(wall)
    assert clock.now() == 1000
    clock.correct(500.0, 0.0)
    assert clock.now() == 500


def test_it_advances_with_the_clock_of_the_machine() -> None:
    wall = Wall(1000.0)
    clock = SharedClock(wall)
    clock.correct(500.0, 0.2)
    assert clock.now() == 500.1
    wall.now = 1003.0
    assert clock.now() == 503.1


def test_a_late_correction_only_counts_without_a_better_one() -> None:
    clock = SharedClock(Wall(1000.0))
    clock.correct(500.0, PROMPT_SECONDS * 4)
    assert clock.now() == 501
    clock.correct(700.0, PROMPT_SECONDS * 4)
    assert clock.now() == 501
    clock.correct(700.0, PROMPT_SECONDS)
    assert clock.now() == 700 + PROMPT_SECONDS / 2


def test_the_time_since_boot_includes_what_the_monotonic_clock_counts() -> None:
    first, monotonic, second = since_boot(), time.monotonic(), since_boot()
    assert first <= second
    assert second >= monotonic
