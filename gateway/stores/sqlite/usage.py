"""Usage reports, each from the smallest table of sums that has its groups, plus the entries that
are not summed up yet.

Bounds are hours since 1970, the first included and the last not.
"""

from collections.abc import Iterator, Sequence
from sqlite3 import Connection

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.model import UsageRow
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, day_text, hour_text
from gateway.stores.report import add_all, rows_of
from gateway.stores.sqlite import schema, usage_sums
from gateway.stores.sqlite.threads import SqlitePart, in_thread
from gateway.stores.sums import (
    DAY_HOURS,
    SUMS,
    TIMES,
    Group,
    Numbers,
    Query,
    Sums,
    query_of,
)

DAYS_AT_ONCE = 7
"""Days read in one piece where each has rows of its own."""


class _Source(Struct, frozen=True, kw_only=True):
    """A table to sum, with the expressions of hour and day.

    `join` is the FROM clause where another table helps to find the rows. The column `time` is
    bounded, in units of `unit` hours.
    """

    name: str
    hour: str = "hour"
    day: str = f"hour / {DAY_HOURS}"
    time: str = "hour"
    unit: int = 1
    join: str = ""

    def column(self, field: str) -> str:
        """Return the expression of a field to group by."""
        return {"hour": self.hour, "day": self.day}.get(field, field)


_TOTALS = _Source(name="usage_totals")
_DAYS = _Source(name="usage_days", day="day", time="day", unit=DAY_HOURS)
_HOURS = _Source(name="usage_hours")
# The teams of each hour are found by the primary key; a team's hours do not lie together.
_HOURS_OF_TEAMS = _Source(
    name="usage_hours",
    join="usage_totals CROSS JOIN usage_hours ON usage_hours.hour = usage_totals.hour",
    hour="usage_hours.hour",
    day=f"usage_hours.hour / {DAY_HOURS}",
    time="usage_totals.hour",
)
_ENTRIES = _Source(
    name="entries",
    hour=f"CAST(at AS INTEGER) / {HOUR_SECONDS}",
    day=f"CAST(at AS INTEGER) / {DAY_SECONDS}",
    time="at",
)

_DAYS_WITH_USAGE = f"""
    SELECT {_TOTALS.day} FROM usage_totals WHERE hour >= :first AND hour < :end
    UNION SELECT {_ENTRIES.day} FROM entries
    WHERE at >= max(:first * {HOUR_SECONDS}, (SELECT value FROM meta WHERE name = 'summed'))
    AND at < :end * {HOUR_SECONDS} ORDER BY 1
"""


class SqliteUsage(SqlitePart):
    """The UsageStore in the tables of sums and entries."""

    async def report(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        query = query_of(by, start, end, team)
        total = Sums()
        # Other reports take their turn between two pieces of a long one.
        for piece in await self._pieces(query):
            await add_all(total, await self._read(piece))
        return await rows_of(total)

    @in_thread("writer", "tidy_usage")
    def tidy(self, connection: Connection, now: float, before: float | None) -> bool:
        return usage_sums.tidy(connection, now, before)

    @in_thread("reports", "usage")
    def _pieces(self, connection: Connection, query: Query) -> list[Query]:
        """Split a slow report: into days where it reads hours, into weeks where it reads days."""
        source = _source(query)
        if source is _TOTALS or (source is _DAYS and "day" not in query.by):
            return [query]
        bounds = {"first": query.first, "end": query.end}
        days = [day for (day,) in connection.execute(_DAYS_WITH_USAGE, bounds)]
        at_once = DAYS_AT_ONCE if source is _DAYS else 1
        return [
            replace(
                query,
                first=max(query.first, some[0] * DAY_HOURS),
                end=min(query.end, (some[-1] + 1) * DAY_HOURS),
            )
            for some in (days[start : start + at_once] for start in range(0, len(days), at_once))
        ]

    @in_thread("reports", "usage")
    def _read(self, connection: Connection, query: Query) -> list[tuple[Group, Numbers]]:
        """Return the groups of one piece, as of one moment. A group may come twice."""
        connection.execute("BEGIN")
        source, mark = _source(query), schema.value(connection, "summed")
        summed = query.first // source.unit, query.end // source.unit
        unsummed = max(mark, query.first * HOUR_SECONDS), query.end * HOUR_SECONDS
        found = [
            *_rows(connection, source, query, *summed),
            *_rows(connection, _ENTRIES, query, *unsummed),
        ]
        connection.execute("COMMIT")
        return found


def _source(query: Query) -> _Source:
    by = set(query.by)
    if query.teams is None and by <= set(TIMES):
        return _TOTALS
    if by <= {"team", "key", "day"} and query.first % DAY_HOURS == query.end % DAY_HOURS == 0:
        return _DAYS
    return _HOURS if query.teams is None else _HOURS_OF_TEAMS


def _rows(
    connection: Connection, source: _Source, query: Query, first: float, end: float
) -> Iterator[tuple[Group, Numbers]]:
    columns = [source.column(field) for field in query.by]
    numbers = [f"sum({source.name}.{field})" for field in SUMS]
    teams = query.teams or ()
    of_teams = "" if query.teams is None else f" AND team IN ({', '.join('?' for _ in teams)})"
    # Every part of the text comes from the tables above. GROUP BY NULL gives no row for an empty
    # history; without GROUP BY it would be a row of nulls.
    rows = connection.execute(
        f"SELECT {', '.join([*columns, *numbers])} FROM {source.join or source.name}"
        f" WHERE {source.time} >= ? AND {source.time} < ?{of_teams}"
        f" GROUP BY {', '.join(columns) or 'NULL'}",
        (first, end, *teams),
    )
    texts = {"hour": hour_text, "day": day_text}
    times = [(place, texts[field]) for place, field in enumerate(query.by) if field in texts]
    for row in rows:
        group = list(row[: len(query.by)])
        for place, text in times:
            group[place] = text(group[place])
        yield tuple(group), row[len(query.by) :]
