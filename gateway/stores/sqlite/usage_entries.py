"""The usage history: entries written by id, and taken out again for archives.

An entry is written once and costs no more than that. Minutes later it is added to the sums that
reports are made of (see `usage_sums`), and a week later it is forgotten (see `usage_keeping`): by
then nobody writes it again, and the sums tell of it. So the file grows with the groups that are
in use, not with the requests.

What is summed up is what happened before a mark; an entry of before it that is written all the
same, for the first time or again, changes the sums in its own transaction.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import astuple

from gateway.core.model import Entry
from gateway.core.periods import HOUR_SECONDS
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sums import NOTHING, group_of, numbers_of, summed

_NAMES = Entry.__struct_fields__
_COLUMNS = ", ".join(_NAMES)
# All of these are lists of words of ours, so no text of anybody's is in the statements.
_INTO = f"INTO entries ({_COLUMNS}) VALUES ({', '.join('?' for _ in _NAMES)})"
_TAKE_AWAY = f"DELETE FROM entries WHERE id = ? RETURNING {_COLUMNS}"  # noqa: S608
_OF_HOUR = f"SELECT {_COLUMNS} FROM entries WHERE at >= ? AND at < ? ORDER BY at, id"  # noqa: S608


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the transaction that is open; one with the same id is replaced."""
    mark = schema.value(connection, "summed")
    late = [entry for entry in entries if entry.at < mark]
    if late:
        _change_sums(connection, late)
    connection.executemany(f"INSERT OR REPLACE {_INTO}", map(astuple, entries))


def _change_sums(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Add entries of before the mark to the sums, and take away those that they replace."""
    changes = usage_sums.Changes()
    for entry in {entry.id: entry for entry in entries}.values():
        for row in connection.execute(_TAKE_AWAY, (entry.id,)).fetchall():
            former = _entry(row)
            changes.add(former, [-number for number in numbers_of(former)])
        changes.add(entry, numbers_of(entry))
    changes.write(connection)


def insert_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write entries in the transaction that is open; sums are still to be made of them.

    Raises sqlite3.IntegrityError where there is one with the same id.
    """
    connection.executemany(f"INSERT {_INTO}", map(astuple, entries))


def written(connection: sqlite3.Connection, ids: Iterable[str]) -> set[str]:
    """Which of these ids have an entry."""
    query = "SELECT 1 FROM entries WHERE id = ?"
    return {id for id in ids if connection.execute(query, (id,)).fetchone()}


def all_entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """The whole history in the order of hours, one by one: single entries where they are kept,
    and for the rest of an hour's sums an entry for each group.
    """
    mark = schema.value(connection, "summed")
    for hour in usage_sums.hours(connection):
        rest = dict(usage_sums.of_hour(connection, hour))
        bounds = (hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS)
        for row in connection.execute(_OF_HOUR, bounds):
            entry = _entry(row)
            if entry.at < mark:
                group, numbers = group_of(entry), numbers_of(entry)
                former = rest.get(group, NOTHING)
                rest[group] = [a - b for a, b in zip(former, numbers, strict=True)]
            yield entry
        yield from summed(hour, rest)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(**dict(zip(_NAMES, row, strict=True)))
