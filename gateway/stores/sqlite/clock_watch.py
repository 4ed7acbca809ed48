"""Telling an operator that this machine's clock once was far in the future.

The store remembers the latest time that it has written anything at, and goes on from there: a
clock that ran backwards would open budgets a second time. So after a second in the year 2100 its
budgets are counted in that year, and do not begin anew before it is over.
"""

from datetime import UTC, datetime

import structlog

from gateway.stores.clock import StoreClock

log = structlog.get_logger(source="store")

BEHIND_SECONDS = 86_400.0
"""How far the wall clock may be behind the store's. A day is more than any time zone or leap."""

_MEND = (
    "if this machine's clock is right, stop all gateways and restore a back-up from before, or "
    "begin all budgets anew: sqlite3 FILE \"UPDATE meta SET value = 0 WHERE name = 'clock'; "
    'DELETE FROM accounts"'
)


class ClockWatch:
    """Looks at a store's clock, and logs once that it is far ahead; again if it was right since."""

    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock
        self._told = False

    def look(self) -> None:
        """Compare the last reading with the wall clock."""
        wall, last = self._clock.wall(), self._clock.last
        behind = last - wall > BEHIND_SECONDS
        if behind and not self._told:
            log.error(
                "this machine's clock is behind the store's, so budgets do not begin anew",
                wall_clock=_date(wall),
                store_clock=_date(last),
                mend=_MEND,
            )
        self._told = behind


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
