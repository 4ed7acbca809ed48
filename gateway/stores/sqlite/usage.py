"""Reports of usage, each from the smallest table of sums that can tell it, and from the entries
that are not summed up yet.

Bounds are hours since 1970, the first one included and the last one not.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.model import UsageRow
from gateway.core.periods import HOUR_SECONDS
from gateway.stores.sqlite import schema, usage_keeping
from gateway.stores.sqlite.threads import Threads, in_thread
from gateway.stores.sums import (
    DAY_HOURS,
    SUMS,
    Group,
    Numbers,
    Sums,
    bounds_of,
    check_grouping,
    day_text,
    hour_text,
    teams_of,
)

DAYS_AT_ONCE = 7
"""Days that are told in one go where each has rows of its own."""


class _Query(Struct, frozen=True, kw_only=True):
    """What is query for. `teams` None: of all of them."""

    by: tuple[str, ...]
    first: int
    end: int
    teams: tuple[str, ...] | None


class _Source(Struct, frozen=True, kw_only=True):
    """A table with the texts of what can be grouped by; `tables` is what is read.

    `time` is what bounds it; where that counts hours, `unit` is how many at a time.
    """

    name: str
    tables: str
    groups: dict[str, str]
    time: str
    unit: int = 1


def _times(hour: str) -> dict[str, str]:
    return {"hour": hour, "day": f"{hour} / {DAY_HOURS}"}


_WHO = {"team": "team", "key": "key"}
_FIELDS = {**_WHO, **{name: name for name in ("model", "size", "quality", "outcome")}}

_TOTALS = _Source(name="usage_totals", tables="usage_totals", groups=_times("hour"), time="hour")
_DAYS = _Source(
    name="usage_days",
    tables="usage_days",
    groups={**_WHO, "day": "day"},
    time="day",
    unit=DAY_HOURS,
)
_HOURS = _Source(
    name="usage_hours",
    tables="usage_hours",
    groups={**_FIELDS, **_times("hour")},
    time="hour",
)
# Each hour's teams are looked up, which is quick; a team's hours are not together.
_HOURS_OF_TEAMS = _Source(
    name="usage_hours",
    tables="usage_totals CROSS JOIN usage_hours ON usage_hours.hour = usage_totals.hour",
    groups={**_FIELDS, **_times("usage_hours.hour")},
    time="usage_totals.hour",
)
_ENTRIES = _Source(
    name="entries",
    tables="entries",
    groups={**_FIELDS, **_times(f"CAST(at AS INTEGER) / {HOUR_SECONDS}")},
    time="at",
)

_DAYS_THERE = f"""
    SELECT hour / {DAY_HOURS} FROM usage_totals WHERE hour >= :first AND hour < :end
    UNION SELECT CAST(at AS INTEGER) / {HOUR_SECONDS} / {DAY_HOURS} FROM entries
    WHERE at >= max(:first * {HOUR_SECONDS}, (SELECT value FROM meta WHERE name = 'summed'))
    AND at < :end * {HOUR_SECONDS} ORDER BY 1
"""  # noqa: S608 - every word of it is ours


class SqliteUsage:
    """The UsageStore in the tables of sums and entries."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads

    async def report(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        check_grouping(by)
        first, last = bounds_of(start, end)
        query = _Query(by=tuple(by), first=first, end=last, teams=teams_of(team))
        total = Sums()
        # Piece by piece: other reports take their turn between two pieces of a long one.
        for piece in await self._pieces(query):
            for group, numbers in (await self._sums(piece)).items():
                total.add(group, numbers)
        return total.rows()

    @in_thread("writer", "tidy_usage")
    def tidy(self, connection: sqlite3.Connection, now: float, before: float | None) -> bool:
        return usage_keeping.tidy(connection, now, before)

    @in_thread("reports", "usage")
    def _pieces(self, connection: sqlite3.Connection, query: _Query) -> list[_Query]:
        return pieces(connection, query)

    @in_thread("reports", "usage")
    def _sums(self, connection: sqlite3.Connection, query: _Query) -> Sums:
        return sums(connection, query)


def pieces(connection: sqlite3.Connection, query: _Query) -> list[_Query]:
    """The parts that a report is made of, one after the other, so that none keeps the others
    waiting for long: days, where it is made of hours; some days, where it has a row for each.
    What is quick is one part.
    """
    source = _source(query)
    if source is _TOTALS or (source is _DAYS and "day" not in query.by):
        return [query]
    bounds = {"first": query.first, "end": query.end}
    days = [day for (day,) in connection.execute(_DAYS_THERE, bounds)]
    at_once = DAYS_AT_ONCE if source is _DAYS else 1
    return [
        replace(
            query,
            first=max(query.first, some[0] * DAY_HOURS),
            end=min(query.end, (some[-1] + 1) * DAY_HOURS),
        )
        for some in (days[start : start + at_once] for start in range(0, len(days), at_once))
    ]


def sums(connection: sqlite3.Connection, query: _Query) -> Sums:
    """The sums of each group, all as they stand at one moment."""
    total = Sums()
    connection.execute("BEGIN")
    source, mark = _source(query), schema.value(connection, "summed")
    summed = query.first // source.unit, query.end // source.unit
    unsummed = max(mark, query.first * HOUR_SECONDS), query.end * HOUR_SECONDS
    for group, numbers in chain(
        _read(connection, source, query, *summed),
        _read(connection, _ENTRIES, query, *unsummed),
    ):
        total.add(group, numbers)
    connection.execute("COMMIT")
    return total


def _source(query: _Query) -> _Source:
    by = set(query.by)
    if query.teams is None and by <= _TOTALS.groups.keys():
        return _TOTALS
    if by <= _DAYS.groups.keys() and query.first % DAY_HOURS == query.end % DAY_HOURS == 0:
        return _DAYS
    return _HOURS if query.teams is None else _HOURS_OF_TEAMS


def _read(
    connection: sqlite3.Connection, source: _Source, query: _Query, first: float, end: float
) -> Iterator[tuple[Group, Numbers]]:
    columns = [source.groups[field] for field in query.by]
    numbers = [f"sum({source.name}.{field})" for field in SUMS]
    teams = query.teams or ()
    of_teams = "" if query.teams is None else f" AND team IN ({', '.join('?' for _ in teams)})"
    # Every part of the text comes from the tables above. Grouped by nothing, an empty history
    # is no row; without a GROUP BY it would be a row of nulls.
    rows = connection.execute(
        f"SELECT {', '.join([*columns, *numbers])} FROM {source.tables}"  # noqa: S608
        f" WHERE {source.time} >= ? AND {source.time} < ?{of_teams}"
        f" GROUP BY {', '.join(columns) or 'NULL'}",
        (first, end, *teams),
    )
    return _told(rows, query.by)


def _told(
    rows: Iterable[tuple[int | str, ...]], by: Sequence[str]
) -> Iterator[tuple[Group, Numbers]]:
    """The rows with their times as text."""
    texts = {"hour": hour_text, "day": day_text}
    times = [(place, texts[field]) for place, field in enumerate(by) if field in texts]
    for row in rows:
        group = list(row[: len(by)])
        for place, text in times:
            group[place] = text(int(group[place]))
        yield tuple(group), [int(number) for number in row[len(by) :]]
