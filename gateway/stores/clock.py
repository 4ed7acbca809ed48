"""The store's clock: the wall clock, less its steps backwards.

Budgets are counted by calendar periods and by seconds, so a clock that runs backwards would open
a window a second time. Three things keep it from doing so:

- within a process it goes on at least as fast as the monotonic clock;
- a store keeps a *mark*, the latest time it has written anything at, and no reading is before it:
  that holds over restarts and between processes;
- a wall clock that jumped ahead and was set right again leaves it ahead, but never standing.
"""

from collections.abc import Callable
from threading import Lock


class StoreClock:
    """Seconds since the epoch that never run backwards. Safe to read from several threads."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.wall = wall
        self._monotonic = monotonic
        self._ahead = float("-inf")  # of the monotonic clock; only grows
        self._last = float("-inf")  # the sum below is rounded: by itself it could fall a little
        self._lock = Lock()

    @property
    def last(self) -> float:
        """The latest reading."""
        return self._last

    def read(self, mark: float = float("-inf")) -> float:
        """The time now: not before `mark`, the wall clock's time or any former reading."""
        with self._lock:
            tick = self._monotonic()
            latest = max(mark, self.wall())
            self._ahead = max(self._ahead, latest - tick)
            self._last = max(self._last, latest, tick + self._ahead)
            return self._last
