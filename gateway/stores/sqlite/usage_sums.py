"""The usage history in its tables: single entries, and sums of them.

    entries        by id, for a week
    usage_hours    sums of each hour, by every field that reports group by
    usage_days     of each day by team and key: what most reports and the overview read
    usage_totals   of each hour, everything together

Writing an entry costs one row. Minutes later it is added to the sums that reports read, and a week
later it is deleted: by then nothing writes it again, and the sums contain it. So the file grows
with the groups in use, not with the requests.

Entries before a mark are summed up. The mark advances in the transaction that adds the entries it
passes, so an entry is either summed up or not, and never both. It stays some minutes behind:
purchases are dated by their start, and an entry that is written behind the mark costs more,
because its transaction changes the sums too.

Each step of housekeeping is short, so that no purchase waits long for the writer. The file does
not shrink: new data fills the space that was freed.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf, nextafter
from operator import attrgetter
from sqlite3 import Connection

from gateway.core.model import Entry
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, day_of
from gateway.stores.codec import from_values
from gateway.stores.sqlite import schema
from gateway.stores.sqlite.threads import transaction
from gateway.stores.sums import DAY_HOURS, FIELDS, SUMS, Sums, group_of, hour_of, numbers_of, summed

BEHIND_SECONDS = 600.0
"""How far the mark stays behind: longer than nearly every purchase takes."""

ENTRIES_SECONDS = 7 * DAY_SECONDS
"""How long single entries are kept. No entry is written again after more than three days."""

ENTRIES_AT_ONCE = 5_000
"""Entries summed up or deleted in one step, and a few more where several have the same time."""

# Only names of tables, fields and our own constants are put into the statements, never a value.

_ENTRY_FIELDS = Entry.__struct_fields__
_values_of = attrgetter(*_ENTRY_FIELDS)
_COLUMNS = ", ".join(_ENTRY_FIELDS)
_VALUES = f"INTO entries ({_COLUMNS}) VALUES ({', '.join('?' for _ in _ENTRY_FIELDS)})"
_WRITE = f"INSERT OR REPLACE {_VALUES}"
_KEEP = f"INSERT OR IGNORE {_VALUES}"
_HOUR = f"CAST(at AS INTEGER) / {HOUR_SECONDS}"

_TABLES = {
    "usage_hours": {"hour": _HOUR, **{field: field for field in FIELDS}},
    "usage_days": {"team": "team", "key": "key", "day": f"{_HOUR} / {DAY_HOURS}"},
    "usage_totals": {"hour": _HOUR},
}
"""The tables of sums: their columns, and the expressions that compute them from entries."""


def _adding(table: str, columns: Mapping[str, str], entries: str, sign: str = "") -> str:
    """Return the statement that adds some entries to a table of sums, or subtracts them."""
    groups = ", ".join(columns.values())
    sums = ", ".join(f"{sign}sum({field})" for field in SUMS)
    more = ", ".join(f"{field} = {field} + excluded.{field}" for field in SUMS)
    return f"""
        INSERT INTO {table} ({", ".join((*columns, *SUMS))})
        SELECT {groups}, {sums} FROM entries WHERE {entries} GROUP BY {groups}
        ON CONFLICT DO UPDATE SET {more}
    """


def _dropping(table: str, columns: Mapping[str, str]) -> str:
    """Return the statement that deletes the sums of an entry's group where all of them are 0."""
    group = f"SELECT {', '.join(columns.values())} FROM entries WHERE id = ?"
    nothing = " AND ".join(f"{field} = 0" for field in SUMS)
    return f"DELETE FROM {table} WHERE ({', '.join(columns)}) IN ({group}) AND {nothing}"


_SUM_UP = [_adding(*table, "at >= ? AND at < ?") for table in _TABLES.items()]
_ADD_LATE = [_adding(*table, "id = ?") for table in _TABLES.items()]
_SUBTRACT = [
    *(_adding(*table, "id = ?", "-") for table in _TABLES.items()),
    *(_dropping(*table) for table in _TABLES.items()),
]

_FIRST_UNSUMMED = "SELECT 1 FROM entries WHERE at >= ? AND at < ? ORDER BY at LIMIT 1"
_LAST_AT_ONCE = "SELECT at FROM entries WHERE at >= ? AND at < ? ORDER BY at LIMIT 1 OFFSET ?"

_OLD_ENTRY = "SELECT 1 FROM entries WHERE at < ? ORDER BY at LIMIT 1"
# In the order of time, and entries of one time together: `all_entries` subtracts the entries that
# are left of an hour from its sums.
_FORGET_ENTRIES = """
    DELETE FROM entries WHERE at < :before AND at <= coalesce(
        (SELECT at FROM entries WHERE at < :before ORDER BY at LIMIT 1 OFFSET :most), :before
    )
"""
_FIRST_HOUR = "SELECT hour FROM usage_totals WHERE hour < ? ORDER BY hour LIMIT 1"
_FORGET_HOUR = (
    # A day's sums go with its first hour: all of its hours are due. So do the records of purchases,
    # because a refund needs the sums.
    "DELETE FROM purchases WHERE at < :before",
    """
    DELETE FROM usage_days WHERE day = :hour / 24 AND (team, key) IN (
        SELECT DISTINCT team, key FROM usage_hours WHERE hour = :hour
    )
    """,
    "DELETE FROM usage_hours WHERE hour = :hour",
    "DELETE FROM usage_totals WHERE hour = :hour",
)

_ALL_HOURS = f"""
    SELECT hour FROM usage_totals
    UNION SELECT {_HOUR} FROM entries
    WHERE at >= (SELECT value FROM meta WHERE name = 'summed')
    ORDER BY 1
"""
_SUMS_OF = f"SELECT {', '.join((*FIELDS, *SUMS))} FROM usage_hours WHERE hour = ?"
_ENTRIES_OF = f"SELECT {_COLUMNS} FROM entries WHERE at >= ? AND at < ? ORDER BY at, id"


def write_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Write entries in the open transaction; one with the same id is replaced."""
    mark = schema.value(connection, "summed")
    late = [(id,) for id in {entry.id for entry in entries if entry.at < mark}]
    if late:
        for statement in _SUBTRACT:
            connection.executemany(statement, late)
    connection.executemany(_WRITE, map(_values_of, entries))
    if late:
        for statement in _ADD_LATE:
            connection.executemany(statement, late)


def keep_entry(connection: Connection, entry: Entry) -> None:
    """Put back an entry that was deleted, so that it can be replaced. The sums still contain it."""
    connection.execute(_KEEP, _values_of(entry))


def all_entries(connection: Connection) -> Iterator[Entry]:
    """Yield the whole history by hour: single entries where they still exist, and one entry for
    each group of what else the hour's sums contain.
    """
    mark = schema.value(connection, "summed")
    for (hour,) in connection.execute(_ALL_HOURS).fetchall():
        size = len(FIELDS)
        rows = connection.execute(_SUMS_OF, (hour,))
        rest = Sums((row[:size], row[size:]) for row in rows)
        bounds = (hour * HOUR_SECONDS, (hour + 1) * HOUR_SECONDS)
        for row in connection.execute(_ENTRIES_OF, bounds):
            entry = from_values(Entry, row)
            if entry.at < mark:
                rest.subtract(group_of(entry), numbers_of(entry))
            yield entry
        yield from summed(hour, rest)


# -- housekeeping ---------------------------------------------------------------------------------


def tidy(connection: Connection, now: float, before: float | None) -> bool:
    """Do one step; False where nothing was left to do. See `UsageStore.tidy`."""
    return (
        _sum_up(connection, now - BEHIND_SECONDS)
        or _forget_entries(connection, now - ENTRIES_SECONDS)
        or (before is not None and _forget_hour(connection, day_of(before) * DAY_HOURS))
    )


def sum_up_all(connection: Connection) -> None:
    """Sum up all entries, in the open transaction."""
    last = _last_time(connection)
    if last is not None:
        _move_mark(connection, schema.value(connection, "summed"), nextafter(last, inf))


def sum_up_import(connection: Connection) -> None:
    """Sum up the entries of an archive, in the open transaction."""
    last = _last_time(connection)
    if last is not None:
        # To the end of an hour: an archive may date entries by their hour, and the outcome of a
        # swept purchase replaces such an entry under its exact time.
        until = float((hour_of(last) + 1) * HOUR_SECONDS)
        _move_mark(connection, schema.value(connection, "summed"), until)
    # Entries that are sums are never replaced: single entries of their hours may be.
    connection.execute("DELETE FROM entries WHERE id LIKE 'sum-%'")


def _last_time(connection: Connection) -> float | None:
    ((last,),) = connection.execute("SELECT max(at) FROM entries")
    return None if last is None else float(last)


def _sum_up(connection: Connection, until: float) -> bool:
    """Sum up some of the entries before `until`; False where there are none."""
    mark = schema.value(connection, "summed")
    if not connection.execute(_FIRST_UNSUMMED, (mark, until)).fetchone():
        return False
    with transaction(connection):
        mark = schema.value(connection, "summed")
        last = connection.execute(_LAST_AT_ONCE, (mark, until, ENTRIES_AT_ONCE - 1)).fetchone()
        _move_mark(connection, mark, until if last is None else nextafter(last[0], inf))
    return True


def _move_mark(connection: Connection, mark: float, until: float) -> None:
    """Add the entries between two marks to the sums, in the open transaction."""
    for statement in _SUM_UP:
        connection.execute(statement, (mark, until))
    schema.advance(connection, "summed", until)


def _forget_entries(connection: Connection, before: float) -> bool:
    before = min(before, schema.value(connection, "summed"))
    if not connection.execute(_OLD_ENTRY, (before,)).fetchone():
        return False
    with transaction(connection):
        connection.execute(_FORGET_ENTRIES, {"before": before, "most": ENTRIES_AT_ONCE - 1})
    return True


def _forget_hour(connection: Connection, before: int) -> bool:
    """Delete the first hour that has sums, if it is before that hour."""
    row = connection.execute(_FIRST_HOUR, (before,)).fetchone()
    if row is None:
        return False
    with transaction(connection):
        for statement in _FORGET_HOUR:
            connection.execute(statement, {"hour": row[0], "before": before * HOUR_SECONDS})
    return True
