"""The time that all gateways of one store agree on: the local clock, corrected by the store's.

Gateways on several machines may have clocks that disagree. A key's expiry, a link's expiry and the
end of a day must come at the same moment for all of them. So each read of the directory, four
times a second, also returns the store's time. Between two reads, and while the store is away, the
local clock continues from there.
"""

import time
from collections.abc import Callable

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux alone has the former


def since_boot() -> float:
    """Return seconds that never run backwards, and go on while the machine is suspended."""
    return time.clock_gettime(_BOOT)


PROMPT_SECONDS = 0.5
"""The longest read whose time is accurate enough."""


class SharedClock:
    """Seconds since the epoch. `wall` is the local clock."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._ahead: float | None = None  # of the local clock

    def now(self) -> float:
        """Return the current time. Until the first correction it is the local clock's."""
        return self._wall() + (self._ahead or 0.0)

    def correct(self, now: float, took: float) -> None:
        """Correct the clock by the store's time, from a read that took so many seconds."""
        if self._ahead is None or took <= PROMPT_SECONDS:
            # The store read its clock at some moment of the reading: its middle is the best guess.
            self._ahead = now + took / 2 - self._wall()
