"""Keeping the usage history small: entries are summed up, and forgotten after a week; sums are
forgotten when an operator no longer wants them.

All in small steps, so that no purchase waits long for the writer. The file does not get smaller:
what is free in it is used for what comes.
"""

import sqlite3

from gateway.core.periods import DAY_SECONDS, day_of
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sqlite.threads import transaction
from gateway.stores.sums import DAY_HOURS

ENTRIES_SECONDS = 7 * DAY_SECONDS
"""How long single entries are kept: any that is written again is written within three days."""

ENTRIES_AT_ONCE = 5_000
"""Entries that are forgotten in one go, and a few more where they are of one moment."""

_OLD_ENTRY = "SELECT 1 FROM entries WHERE at < ? ORDER BY at LIMIT 1"
# In the order of time, and never only some of one moment: see `usage.all_entries`.
_FORGET_ENTRIES = """
    DELETE FROM entries WHERE at < :before AND at <= coalesce(
        (SELECT at FROM entries WHERE at < :before ORDER BY at LIMIT 1 OFFSET :most), :before
    )
"""
_FIRST_HOUR = "SELECT hour FROM usage_totals WHERE hour < ? ORDER BY hour LIMIT 1"
_FORGET_HOUR = (
    # A day goes with its first hour: all of its hours are to go.
    """
    DELETE FROM usage_days WHERE day = :hour / 24 AND (team, key) IN (
        SELECT DISTINCT team, key FROM usage_hours WHERE hour = :hour
    )
    """,
    "DELETE FROM usage_hours WHERE hour = :hour",
    "DELETE FROM usage_totals WHERE hour = :hour",
)


def tidy(connection: sqlite3.Connection, now: float, before: float | None) -> bool:
    """Do one step of all this; False where there was nothing to do.

    Sums of the days that were over at `before` are forgotten; None keeps them.
    """
    return (
        usage_sums.sum_up(connection, now)
        or _forget_entries(connection, now - ENTRIES_SECONDS)
        or (before is not None and _forget_hour(connection, day_of(before) * DAY_HOURS))
    )


def _forget_entries(connection: sqlite3.Connection, before: float) -> bool:
    before = min(before, schema.value(connection, "summed"))
    if not connection.execute(_OLD_ENTRY, (before,)).fetchone():
        return False
    with transaction(connection):
        connection.execute(_FORGET_ENTRIES, {"before": before, "most": ENTRIES_AT_ONCE - 1})
    return True


def _forget_hour(connection: sqlite3.Connection, before: int) -> bool:
    """Forget the first hour, if it is before that one."""
    row = connection.execute(_FIRST_HOUR, (before,)).fetchone()
    if row is None:
        return False
    with transaction(connection):
        for statement in _FORGET_HOUR:
            connection.execute(statement, {"hour": row[0]})
    return True
