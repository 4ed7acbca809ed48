"""The usage history as single entries: written by id, and read again for archives.

Writing an entry costs one row. Minutes later it is added to the sums that reports read (see
`usage_sums`), and a week later it is deleted (see `usage_keeping`): by then nothing writes it
again, and the sums contain it. So the file grows with the groups in use, not with the requests.

Entries before a mark are summed up. Where an entry before the mark is written late, for the first
time or again, its transaction changes the sums too.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import sub

from msgspec.structs import astuple

from gateway.core.model import Entry
from gateway.core.periods import HOUR_SECONDS
from gateway.stores.codec import from_values
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sums import NOTHING, Numbers, group_of, numbers_of, summed

_FIELDS = Entry.__struct_fields__
# Only names of fields are put into the statements, never a value.
_COLUMNS = ", ".join(_FIELDS)
_INTO = f"INTO entries ({_COLUMNS}) VALUES ({', '.join('?' for _ in _FIELDS)})"
_TAKE_AWAY = f"DELETE FROM entries WHERE id = ? RETURNING {_COLUMNS}"  # noqa: S608
_OF_HOUR = f"SELECT {_COLUMNS} FROM entries WHERE at >= ? AND at < ? ORDER BY at, id"  # noqa: S608


def write_entries(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the open transaction; one with the same id is replaced."""
    mark = schema.value(connection, "summed")
    late = [entry for entry in entries if entry.at < mark]
    if late:
        _change_sums(connection, late)
    connection.executemany(f"INSERT OR REPLACE {_INTO}", map(astuple, entries))


def _change_sums(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Add late entries to the sums, and subtract those that they replace."""
    changes: list[tuple[Entry, Numbers]] = []
    for entry in {entry.id: entry for entry in entries}.values():
        for row in connection.execute(_TAKE_AWAY, (entry.id,)).fetchall():
            former = from_values(Entry, row)
            changes.append((former, [-number for number in numbers_of(former)]))
        changes.append((entry, numbers_of(entry)))
    usage_sums.add_late(connection, changes)


def insert_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> None:
    """Write new entries in the open transaction, without adding them to any sum yet.

    Raises sqlite3.IntegrityError where an entry with the same id exists.
    """
    connection.executemany(f"INSERT {_INTO}", map(astuple, entries))


def all_entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    """Yield the whole history by hour: single entries where they still exist, and one entry for
    each group of what else the hour's sums contain.
    """
    mark = schema.value(connection, "summed")
    for hour in usage_sums.hours(connection):
        rest = dict(usage_sums.of_hour(connection, hour))
        bounds = (hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS)
        for row in connection.execute(_OF_HOUR, bounds):
            entry = from_values(Entry, row)
            if entry.at < mark:
                group = group_of(entry)
                rest[group] = tuple(map(sub, rest.get(group, NOTHING), numbers_of(entry)))
            yield entry
        yield from summed(hour, rest)
