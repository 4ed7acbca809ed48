"""Sums of usage, made of the entries before a mark:

    usage_hours    of each hour, by every field that reports group by
    usage_days     of each day by team and key: what most reports and the overview read
    usage_totals   of each hour, everything together

The mark advances in the transaction that adds the entries it passes, so an entry is either summed
up or not, and never both. It stays some minutes behind: purchases are dated by their start, and
an entry that is written behind the mark costs more.
"""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from gateway.core.model import Entry
from gateway.core.periods import HOUR_SECONDS
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.threads import transaction
from gateway.stores.sums import DAY_HOURS, FIELDS, SUMS, Group, Numbers, Sums, group_of, hour_of

BEHIND_SECONDS = 600.0
"""How far the mark stays behind: longer than nearly every purchase takes."""

ENTRIES_AT_ONCE = 5_000
"""Entries summed up in one step, and a few more where several have the same time."""

_HOUR = f"CAST(at AS INTEGER) / {HOUR_SECONDS}"
_FIRST_UNSUMMED = "SELECT 1 FROM entries WHERE at >= ? AND at < ? ORDER BY at LIMIT 1"
_LAST_AT_ONCE = "SELECT at FROM entries WHERE at >= ? AND at < ? ORDER BY at LIMIT 1 OFFSET ?"
_MOVE_MARK = "UPDATE meta SET value = max(value, ?) WHERE name = 'summed'"
_ALL_HOURS = f"""
    SELECT hour FROM usage_totals
    UNION SELECT {_HOUR} FROM entries
    WHERE at >= (SELECT value FROM meta WHERE name = 'summed')
    ORDER BY 1
"""  # noqa: S608 - it contains only our own constants
_OF_HOUR = f"SELECT {', '.join((*FIELDS, *SUMS))} FROM usage_hours WHERE hour = ?"  # noqa: S608


class _Table:
    """A table of sums by these columns.

    `expressions` compute the columns in SQL, from the table of entries, and `group` from an entry.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        expressions: Sequence[str],
        group: Callable[[Entry], Group],
    ) -> None:
        self.group = group
        every = (*columns, *SUMS)
        into = f"INSERT INTO {name} ({', '.join(every)})"
        more = " ON CONFLICT DO UPDATE SET " + ", ".join(
            f"{field} = {field} + excluded.{field}" for field in SUMS
        )
        sums = ", ".join([*expressions, *(f"sum({field})" for field in SUMS)])
        groups = ", ".join(expressions)
        self._add = f"{into} VALUES ({', '.join('?' for _ in every)}){more}"
        self.sum_up = (
            f"{into} SELECT {sums} FROM entries WHERE at >= ? AND at < ? GROUP BY {groups}{more}"  # noqa: S608
        )
        nothing = [*(f"{column} = ?" for column in columns), *(f"{field} = 0" for field in SUMS)]
        self._drop = f"DELETE FROM {name} WHERE {' AND '.join(nothing)}"  # noqa: S608

    def add(self, connection: sqlite3.Connection, sums: Sums) -> None:
        """Add these sums, and delete the rows that become 0."""
        rows = [(group, numbers) for group, numbers in sums.items() if any(numbers)]
        connection.executemany(self._add, [(*group, *numbers) for group, numbers in rows])
        less = [group for group, numbers in rows if min(numbers) < 0]
        connection.executemany(self._drop, less)


_TABLES = (
    _Table(
        "usage_hours",
        ("hour", *FIELDS),
        (_HOUR, *FIELDS),
        lambda entry: (hour_of(entry.at), *group_of(entry)),
    ),
    _Table(
        "usage_days",
        ("team", "key", "day"),
        ("team", "key", f"{_HOUR} / {DAY_HOURS}"),
        lambda entry: (entry.team, entry.key, hour_of(entry.at) // DAY_HOURS),
    ),
    _Table("usage_totals", ("hour",), (_HOUR,), lambda entry: (hour_of(entry.at),)),
)


def add_late(connection: sqlite3.Connection, changes: Sequence[tuple[Entry, Numbers]]) -> None:
    """Add numbers to the sums that these entries belong to, in the open transaction."""
    for table in _TABLES:
        sums = Sums()
        for entry, numbers in changes:
            sums.add(table.group(entry), numbers)
        table.add(connection, sums)


def sum_up(connection: sqlite3.Connection, now: float) -> bool:
    """Sum up some of the entries that the mark is due to pass; False where there are none."""
    until = now - BEHIND_SECONDS
    mark = schema.value(connection, "summed")
    if not connection.execute(_FIRST_UNSUMMED, (mark, until)).fetchone():
        return False
    with transaction(connection):
        mark = schema.value(connection, "summed")
        last = connection.execute(_LAST_AT_ONCE, (mark, until, ENTRIES_AT_ONCE - 1)).fetchone()
        pass_entries(connection, mark, until if last is None else math.nextafter(last[0], math.inf))
    return True


def sum_up_all(connection: sqlite3.Connection) -> None:
    """Sum up all entries, in the open transaction."""
    ((last,),) = connection.execute("SELECT max(at) FROM entries")
    if last is not None:
        mark = schema.value(connection, "summed")
        pass_entries(connection, mark, math.nextafter(last, math.inf))


def pass_entries(connection: sqlite3.Connection, mark: float, until: float) -> None:
    """Add the entries between two marks to the sums, in the open transaction."""
    for table in _TABLES:
        connection.execute(table.sum_up, (mark, until))
    connection.execute(_MOVE_MARK, (until,))


def hours(connection: sqlite3.Connection) -> list[int]:
    """Return all hours that have usage, in order."""
    return [hour for (hour,) in connection.execute(_ALL_HOURS)]


def of_hour(connection: sqlite3.Connection, hour: int) -> Iterator[tuple[Group, Numbers]]:
    """Yield the sums of an hour."""
    for row in connection.execute(_OF_HOUR, (hour,)):
        yield row[: len(FIELDS)], row[len(FIELDS) :]
