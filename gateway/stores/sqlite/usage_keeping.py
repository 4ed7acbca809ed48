"""Keeps the usage history small: sums up entries, deletes them after a week, and deletes sums
that the operator no longer keeps.

Each step is short, so that no purchase waits long for the writer. The file does not shrink: new
data fills the space that was freed.
"""

import sqlite3

from gateway.core.periods import DAY_SECONDS, day_of
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sqlite.threads import transaction
from gateway.stores.sums import DAY_HOURS

ENTRIES_SECONDS = 7 * DAY_SECONDS
"""How long single entries are kept. No entry is written again after more than three days."""

ENTRIES_AT_ONCE = 5_000
"""Entries deleted in one step, and a few more where several have the same time."""

_OLD_ENTRY = "SELECT 1 FROM entries WHERE at < ? ORDER BY at LIMIT 1"
# In the order of time, and entries of one time together: see `usage_entries.all_entries`.
_FORGET_ENTRIES = """
    DELETE FROM entries WHERE at < :before AND at <= coalesce(
        (SELECT at FROM entries WHERE at < :before ORDER BY at LIMIT 1 OFFSET :most), :before
    )
"""
_FIRST_HOUR = "SELECT hour FROM usage_totals WHERE hour < ? ORDER BY hour LIMIT 1"
_FORGET_HOUR = (
    # A day's sums go with its first hour: all of its hours are due.
    """
    DELETE FROM usage_days WHERE day = :hour / 24 AND (team, key) IN (
        SELECT DISTINCT team, key FROM usage_hours WHERE hour = :hour
    )
    """,
    "DELETE FROM usage_hours WHERE hour = :hour",
    "DELETE FROM usage_totals WHERE hour = :hour",
)


def tidy(connection: sqlite3.Connection, now: float, before: float | None) -> bool:
    """Do one step; False where nothing was left to do. See `UsageStore.tidy`."""
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
    """Delete the first hour that has sums, if it is before that hour."""
    row = connection.execute(_FIRST_HOUR, (before,)).fetchone()
    if row is None:
        return False
    with transaction(connection):
        for statement in _FORGET_HOUR:
            connection.execute(statement, {"hour": row[0]})
    return True
