"""Slowing down who tries tokens: a bucket of wrong answers that fills again by itself.

Only wrong tokens are held up, never the right one: somebody who guesses must not be able to lock
out who does not. That is safe because a token has at least 16 characters, and what
`gateway admin token` makes has 256 random bits. What the bucket does is to keep guessing noticed
and its log lines few.
"""

from collections.abc import Callable

WRONG_AT_ONCE = 10
SECONDS_EACH = 6.0
"""After that many wrong ones, one more is answered as such every so many seconds."""


class Guesses:
    """How many wrong tokens may still be answered. `clock` counts seconds, never backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(WRONG_AT_ONCE)
        self._at = clock()

    def wrong(self) -> float | None:
        """Count a wrong token. Seconds to wait where there were too many, else None."""
        now = self._clock()
        self._left = min(WRONG_AT_ONCE, self._left + (now - self._at) / SECONDS_EACH)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * SECONDS_EACH
        self._left -= 1
        return None
