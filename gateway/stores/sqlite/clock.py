"""The store's clock: the machine's wall clock, except that it never runs backwards.

Budgets are counted by calendar periods and by seconds, so a clock that runs backwards would begin
a period a second time. Three rules prevent that:

- within a process it goes on at least as fast as the monotonic clock;
- a store keeps a *mark*, the latest time that it has written anything at, and no reading is
  before it: that holds over restarts and between processes;
- a wall clock that jumped ahead and was set right again leaves this one ahead, but never standing.

So after one second in the year 2100, budgets are counted in that year and do not reset before it
is over. An operator learns of that from the log, with what to do.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

import structlog

from gateway.core.periods import DAY_SECONDS

log = structlog.get_logger(source="store")

FAR_AHEAD_SECONDS = float(DAY_SECONDS)
"""More than any time zone or leap second explains."""

_REMEDY = (
    "if this machine's clock is right, stop all gateways and restore a backup from before, or "
    "reset all budgets: sqlite3 FILE \"UPDATE meta SET value = 0 WHERE name = 'clock'; "
    'DELETE FROM accounts"'
)


class StoreClock:
    """Seconds since the epoch that never run backwards. Safe to read from several threads."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = float("-inf")  # from the monotonic clock; only grows
        self._last = float("-inf")  # the sum with the offset is rounded: it alone could fall
        self._far_ahead = False
        self._lock = Lock()

    def read(self, mark: float = float("-inf")) -> float:
        """Return a time not before `mark`, the wall clock's time or any former reading.

        Logs once that it is far ahead of the wall clock; again if it was right in between.
        """
        with self._lock:
            tick, wall = self._monotonic(), self._wall()
            latest = max(mark, wall)
            self._offset = max(self._offset, latest - tick)
            self._last = max(self._last, latest, tick + self._offset)
            far_ahead = self._last - wall > FAR_AHEAD_SECONDS
            if far_ahead and not self._far_ahead:
                log.error(
                    "the store's clock is ahead of this machine's, so budgets do not reset",
                    wall_clock=_date(wall),
                    store_clock=_date(self._last),
                    remedy=_REMEDY,
                )
            self._far_ahead = far_ahead
            return self._last


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
