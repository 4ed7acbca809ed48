"""The usage history: entries written by id, and summed for reports.

An entry's day is the UTC date of its `at`, cut off to whole seconds first: SQLite would round the
last half millisecond of a day up into the next one.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from msgspec.structs import astuple

from gateway.model import Entry, UsageRow

_FIELDS = Entry.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)
_VALUES = ", ".join("?" for _ in _FIELDS)
# Both are lists of the words above, so no text of anybody's is in the statements.
_INTO = f"INTO entries ({_COLUMNS}) VALUES ({_VALUES})"
_ALL = f"SELECT {_COLUMNS} FROM entries ORDER BY at, id"  # noqa: S608

_GROUPS = {
    "team": "team",
    "key": "key",
    "model": "model",
    "size": "size",
    "quality": "quality",
    "outcome": "outcome",
    "hour": "strftime('%Y-%m-%dT%H:00:00Z', CAST(at AS INTEGER), 'unixepoch')",
    "day": "date(CAST(at AS INTEGER), 'unixepoch')",
}
_SUMS = ("requests", "images_bought", "images_cached", "images_unknown", "cost", "saved")


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the transaction that is open; one with the same id is replaced."""
    connection.executemany(f"INSERT OR REPLACE {_INTO}", map(astuple, entries))


def insert_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write entries in the transaction that is open. Raises sqlite3.IntegrityError where there is
    one with the same id.
    """
    connection.executemany(f"INSERT {_INTO}", map(astuple, entries))


def all_entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """The whole history in the order of time, one by one."""
    for row in connection.execute(_ALL):
        yield Entry(**dict(zip(_FIELDS, row, strict=True)))


def record(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in a transaction of their own."""
    connection.execute("BEGIN IMMEDIATE")
    write_entries(connection, entries)
    connection.execute("COMMIT")


def written(connection: sqlite3.Connection, ids: Iterable[str]) -> set[str]:
    """Which of these ids have an entry."""
    query = "SELECT 1 FROM entries WHERE id = ?"
    return {id for id in ids if connection.execute(query, (id,)).fetchone()}


def check_grouping(by: Sequence[str]) -> None:
    """Raise ValueError where usage cannot be grouped by one of these."""
    for field in by:
        if field not in _GROUPS:
            raise ValueError(f"Usage cannot be grouped by {field!r}.")


def usage(
    connection: sqlite3.Connection,
    by: Sequence[str],
    start: float | None,
    end: float | None,
    team: str | None,
) -> list[UsageRow]:
    """Usage from `start` to before `end`, of all teams or of one, summed by the fields of `by`."""
    columns = [_GROUPS[field] for field in by]
    sums = [f"sum({field})" for field in _SUMS]
    # Every part of the text comes from the tables above. Grouped by nothing, an empty history
    # is no row; without a GROUP BY it would be a row of nulls.
    rows = connection.execute(
        f"SELECT {', '.join(columns + sums)} FROM entries WHERE at >= ? AND at < ?"  # noqa: S608
        " AND team = coalesce(?, team)"
        f" GROUP BY {', '.join(columns) or 'NULL'} ORDER BY {', '.join(columns) or 'NULL'}",
        (-inf if start is None else start, inf if end is None else end, team),
    )
    return [_usage_row(row, len(by)) for row in rows]


def _usage_row(row: tuple[str | int, ...], groups: int) -> UsageRow:
    sums = dict(zip(_SUMS, (int(number) for number in row[groups:]), strict=True))
    return UsageRow(group=tuple(str(value) for value in row[:groups]), **sums)
