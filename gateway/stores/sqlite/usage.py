"""The usage history: entries written by id, and what they add to the sums that reports are made of.

Sums are kept in the transaction of their entries, so that neither ever has what the other lacks:

    usage_hours    of each hour by all that reports go by
    usage_days     of each day by team and key: what most reports and the overview ask for
    usage_totals   of each hour, everything together; it also tells which hours there are

The entries themselves are needed only where they may be written again: for a week (an outcome may
come days after its hold was swept). After it the sums alone tell of them: see `usage_keeping`.
So the file grows with the groups that are in use, not with the requests.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import astuple

from gateway.model import Entry
from gateway.rules.windows import HOUR_SECONDS
from gateway.stores.sums import (
    DAY_HOURS,
    FIELDS,
    NOTHING,
    SUMS,
    Group,
    Numbers,
    Sums,
    group_of,
    hour_of,
    numbers_of,
    summed,
)

_NAMES = Entry.__struct_fields__
_COLUMNS = ", ".join(_NAMES)
# All of these are lists of words of ours, so no text of anybody's is in the statements.
_INSERT = f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join('?' for _ in _NAMES)})"  # noqa: S608
_TAKE_AWAY = f"DELETE FROM entries WHERE id = ? RETURNING {_COLUMNS}"  # noqa: S608
_OF_HOUR = f"SELECT {_COLUMNS} FROM entries WHERE at >= ? AND at < ? ORDER BY at, id"  # noqa: S608


class _Table:
    """A table of sums by these columns."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        every = (*columns, *SUMS)
        self._add = (
            f"INSERT INTO {name} ({', '.join(every)}) VALUES ({', '.join('?' for _ in every)})"  # noqa: S608
            " ON CONFLICT DO UPDATE SET "
            + ", ".join(f"{field} = {field} + excluded.{field}" for field in SUMS)
        )
        self._drop = (
            f"DELETE FROM {name} WHERE "  # noqa: S608
            + " AND ".join([*(f"{column} = ?" for column in columns), *(f"{s} = 0" for s in SUMS)])
        )

    def add(self, connection: sqlite3.Connection, sums: Sums) -> None:
        """Add these; a row that comes to nothing is gone."""
        rows = [(group, numbers) for group, numbers in sums.items() if any(numbers)]
        connection.executemany(self._add, [(*group, *numbers) for group, numbers in rows])
        less = [group for group, numbers in rows if min(numbers) < 0]
        if less:
            connection.executemany(self._drop, less)


_HOURS = _Table("usage_hours", ("hour", *FIELDS))
_DAYS = _Table("usage_days", ("team", "key", "day"))
_TOTALS = _Table("usage_totals", ("hour",))


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the transaction that is open; one with the same id is replaced."""
    changes = _Changes()
    for entry in entries:
        for row in connection.execute(_TAKE_AWAY, (entry.id,)).fetchall():
            former = _entry(row)
            changes.add(former, [-number for number in numbers_of(former)])
        connection.execute(_INSERT, astuple(entry))
        changes.add(entry, numbers_of(entry))
    changes.write(connection)


def insert_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write entries in the transaction that is open. Raises sqlite3.IntegrityError where there is
    one with the same id.
    """
    changes = _Changes()
    for entry in entries:
        connection.execute(_INSERT, astuple(entry))
        changes.add(entry, numbers_of(entry))
    changes.write(connection)


def record(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in a transaction of their own."""
    connection.execute("BEGIN IMMEDIATE")
    write_entries(connection, entries)
    connection.execute("COMMIT")


def all_entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """The whole history in the order of hours, one by one: single entries where they are kept,
    and for the rest of an hour's sums an entry for each group.
    """
    for (hour,) in connection.execute("SELECT hour FROM usage_totals ORDER BY hour"):
        rest = dict(_sums_of(connection, hour))
        bounds = (hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS)
        for row in connection.execute(_OF_HOUR, bounds):
            entry = _entry(row)
            group, numbers = group_of(entry), numbers_of(entry)
            rest[group] = [a - b for a, b in zip(rest.get(group, NOTHING), numbers, strict=True)]
            yield entry
        yield from summed(hour, rest)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(**dict(zip(_NAMES, row, strict=True)))


def _sums_of(connection: sqlite3.Connection, hour: int) -> Iterator[tuple[Group, Numbers]]:
    columns = ", ".join((*FIELDS, *SUMS))
    for row in connection.execute(
        f"SELECT {columns} FROM usage_hours WHERE hour = ?",  # noqa: S608
        (hour,),
    ):
        yield row[: len(FIELDS)], row[len(FIELDS) :]


class _Changes:
    """What entries change in the three tables of sums."""

    def __init__(self) -> None:
        self._hours, self._days, self._totals = Sums(), Sums(), Sums()

    def add(self, entry: Entry, numbers: Numbers) -> None:
        """Add numbers where this entry belongs."""
        hour = hour_of(entry.at)
        self._hours.add((hour, *group_of(entry)), numbers)
        self._days.add((entry.team, entry.key, hour // DAY_HOURS), numbers)
        self._totals.add((hour,), numbers)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write them, in the transaction that is open."""
        _HOURS.add(connection, self._hours)
        _DAYS.add(connection, self._days)
        _TOTALS.add(connection, self._totals)
