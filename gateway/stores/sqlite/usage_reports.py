"""Reports of usage, each from the smallest table of sums that can tell it.

Bounds are hours since 1970, the first one included and the last one not.
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from gateway.stores.sums import DAY_HOURS, SUMS, Group, Numbers, day_text, hour_text

Summed = list[tuple[Group, Numbers]]


class Asked(Struct, frozen=True, kw_only=True):
    """What is asked for. `teams` None: of all of them."""

    by: tuple[str, ...]
    first: int
    end: int
    teams: tuple[str, ...] | None


class _Source(Struct, frozen=True):
    """A table with the texts of what can be grouped by, and what bounds it.

    `unit` is how many hours the bounding column counts in. `tables` is what is read.
    """

    name: str
    tables: str
    groups: dict[str, str]
    time: str
    unit: int


_FIELDS = {name: name for name in ("model", "size", "quality", "outcome")}
_WHO = {"team": "team", "key": "key"}

_TOTALS = _Source(
    "usage_totals", "usage_totals", {"hour": "hour", "day": f"hour / {DAY_HOURS}"}, "hour", 1
)
_DAYS = _Source("usage_days", "usage_days", {**_WHO, "day": "day"}, "day", DAY_HOURS)
_HOURS = _Source(
    "usage_hours",
    "usage_hours",
    {**_WHO, **_FIELDS, "hour": "hour", "day": f"hour / {DAY_HOURS}"},
    "hour",
    1,
)
# Each hour's teams are looked up, which is quick; a team's hours are not together.
_HOURS_OF_TEAMS = _Source(
    "usage_hours",
    "usage_totals CROSS JOIN usage_hours ON usage_hours.hour = usage_totals.hour",
    {**_WHO, **_FIELDS, "hour": "usage_hours.hour", "day": f"usage_hours.hour / {DAY_HOURS}"},
    "usage_totals.hour",
    1,
)


def pieces(connection: sqlite3.Connection, asked: Asked) -> list[Asked]:
    """The parts that a report is made of, one after the other: a day each, so that none keeps the
    others waiting for long. What is quick is one part.
    """
    if _source(asked) in (_TOTALS, _DAYS):
        return [asked]
    days = connection.execute(
        f"SELECT DISTINCT hour / {DAY_HOURS} FROM usage_totals WHERE hour >= ? AND hour < ?",  # noqa: S608
        (asked.first, asked.end),
    )
    return [
        replace(
            asked,
            first=max(asked.first, day * DAY_HOURS),
            end=min(asked.end, (day + 1) * DAY_HOURS),
        )
        for (day,) in days
    ]


def sums(connection: sqlite3.Connection, asked: Asked) -> Summed:
    """The sums of each group."""
    source = _source(asked)
    columns = [source.groups[field] for field in asked.by]
    numbers = [f"sum({source.name}.{field})" for field in SUMS]
    names, values = _of_teams(asked.teams)
    # Every part of the text comes from the tables above. Grouped by nothing, an empty history
    # is no row; without a GROUP BY it would be a row of nulls.
    rows = connection.execute(
        f"SELECT {', '.join([*columns, *numbers])} FROM {source.tables}"  # noqa: S608
        f" WHERE {source.time} >= ? AND {source.time} < ?{names}"
        f" GROUP BY {', '.join(columns) or 'NULL'}",
        (asked.first // source.unit, asked.end // source.unit, *values),
    )
    return list(_told(rows, asked.by))


def _source(asked: Asked) -> _Source:
    by = set(asked.by)
    if asked.teams is None and by <= _TOTALS.groups.keys():
        return _TOTALS
    if by <= _DAYS.groups.keys() and asked.first % DAY_HOURS == asked.end % DAY_HOURS == 0:
        return _DAYS
    return _HOURS if asked.teams is None else _HOURS_OF_TEAMS


def _of_teams(teams: Collection[str] | None) -> tuple[str, Collection[str]]:
    if teams is None:
        return "", ()
    return f" AND team IN ({', '.join('?' for _ in teams)})", teams


def _told(rows: sqlite3.Cursor, by: Sequence[str]) -> Iterator[tuple[Group, Numbers]]:
    """The rows with their times as text."""
    texts = {"hour": hour_text, "day": day_text}
    times = [(place, texts[field]) for place, field in enumerate(by) if field in texts]
    for row in rows:
        group = list(row[: len(by)])
        for place, text in times:
            group[place] = text(group[place])
        yield tuple(group), row[len(by) :]
