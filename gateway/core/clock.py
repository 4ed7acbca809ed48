"""The time that gateways of one store agree on: this machine's clock, set by the store's.

Where gateways run on several machines their clocks may disagree, and a key that expires, a link
that dies or a day that ends must do so at one moment for all. So each reading of the directory,
four times a second, tells the store's time too. Between two readings, and while the store is away,
the machine's own clock goes on from there.
"""

from collections.abc import Callable

PROMPT_SECONDS = 0.5
"""A reading that took longer than this says too little about the time it is now."""


class SharedClock:
    """Seconds since the epoch. `wall` is this machine's clock."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._ahead: float | None = None  # of the machine's clock

    def now(self) -> float:
        """The time now; this machine's as long as no store has told its own."""
        return self._wall() + (self._ahead or 0.0)

    def told(self, now: float, took: float) -> None:
        """Take over the store's time, as it was within the last `took` seconds."""
        if self._ahead is None or took <= PROMPT_SECONDS:
            self._ahead = now + took / 2 - self._wall()
