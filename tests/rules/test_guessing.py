"""Wrong tokens: some are answered at once, then one every few seconds."""

from gateway.rules.guessing import SECONDS_EACH, WRONG_AT_ONCE, Guesses


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_some_are_free_then_each_has_to_wait() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    assert [guesses.wrong() for _ in range(WRONG_AT_ONCE)] == [None] * WRONG_AT_ONCE
    assert guesses.wrong() == SECONDS_EACH
    clock.now += SECONDS_EACH / 2
    assert guesses.wrong() == SECONDS_EACH / 2
    clock.now += SECONDS_EACH / 2
    assert guesses.wrong() is None
    assert guesses.wrong() == SECONDS_EACH


def test_after_a_long_time_there_are_no_more_than_at_first() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    clock.now += 1_000_000
    assert [guesses.wrong() for _ in range(WRONG_AT_ONCE)] == [None] * WRONG_AT_ONCE
    assert guesses.wrong() is not None
