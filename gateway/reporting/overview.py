"""The overview of a span of days: what was spent and saved, by whom and when.

It is read in a handful of small reports, none of which has a row for each day and team: the dearest
teams are found first, then only theirs are told day by day.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.core.faults import InvalidField
from gateway.core.model import UsageRow
from gateway.core.money import format_usd
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, day_of, utc
from gateway.reporting.request_lines import Latency
from gateway.reporting.store import HistoryStore, UsageStore
from gateway.reporting.views import usage_sums
from gateway.tenants.views import Listing, public_id

DEAREST = 10
"""Teams and keys that are told one by one."""

HOURLY_DAYS = 2
"""Up to so many days are told by the hour."""

DEFAULT_DAYS = 30

_ONE_OF_ALL = (
    "cost_usd",
    "saved_usd",
    "images_bought",
    "images_cached",
    "requests",
    "requests_refused",
)


class Days(Struct, frozen=True):
    """Days since 1970, from the first to the last, both included."""

    first: int
    last: int

    @property
    def start(self) -> float:
        """When the first one begins."""
        return float(self.first * DAY_SECONDS)

    @property
    def end(self) -> float:
        """When the last one is over."""
        return float((self.last + 1) * DAY_SECONDS)

    @property
    def before(self) -> "Days":
        """As many days, right before."""
        return Days(2 * self.first - self.last - 1, self.first - 1)

    @property
    def by(self) -> str:
        """What the span is told by: "hour" or "day"."""
        return "hour" if self.last - self.first < HOURLY_DAYS else "day"

    def axis(self, now: float) -> list[str]:
        """Its days as text, or its hours, without those to come."""
        if self.by == "day":
            return [day_text(day) for day in range(self.first, self.last + 1)]
        end = max(self.start + HOUR_SECONDS, min(self.end, now))
        return [utc(at) for at in range(int(self.start), int(end), HOUR_SECONDS)]


def days_asked(first: float | None, last: float | None, now: float) -> Days:
    """The days from one to another, each told by a moment of it; by default, up to today 30 days.

    Raises ValueError where the last one is before the first.
    """
    last_day = day_of(now if last is None else last)
    first_day = last_day - DEFAULT_DAYS + 1 if first is None else day_of(first)
    if last_day < first_day:
        raise InvalidField("to", "is before from")
    return Days(max(0, first_day), last_day)


def day_text(day: int) -> str:
    """A day since 1970 as lists show it."""
    return utc(day * DAY_SECONDS)[: len("2026-11-01")]


async def overview(
    usage: UsageStore, history: HistoryStore, days: Days, team: str | None, now: float
) -> Listing:
    """All of it, for one team or all; latency is that of all. Raises StoreUnavailable."""
    by_key = await usage.report(["team", "key"], days.start, days.end, team)
    former = await usage.report([], days.before.start, days.start, team)
    teams = _dearest(_by_team(by_key))
    names = [row.group[0] for row in teams[:DEAREST]]
    # The dearest first: what is spent in between must not be missing from the rest.
    series = await usage.report(["team", days.by], days.start, days.end, names)
    total = await usage.report([days.by], days.start, days.end, team)
    axis = days.axis(now)
    return {
        "from": day_text(days.first),
        "to": day_text(days.last),
        "before_from": day_text(days.before.first),
        "before_to": day_text(days.before.last),
        "now": _tile(by_key),
        "before": _tile(former),
        "days": axis,
        "series": _series(axis, names, series, total, rest=len(teams) > DEAREST),
        "teams": [_line(row, team=row.group[0]) for row in teams[:DEAREST]],
        "keys": [
            _line(row, team=row.group[0], key=public_id(row.group[1]))
            for row in _dearest(by_key)[:DEAREST]
        ],
        "latency": _latencies(await history.latency(days.start, days.end), days.by),
    }


def _by_team(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Rows by team and key, summed up by team."""
    found: dict[str, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(row.group[0], []).append(row)
    return [_together((team,), of_team) for team, of_team in found.items()]


def _together(group: tuple[str, ...], rows: Sequence[UsageRow]) -> UsageRow:
    names = UsageRow.__struct_fields__[1:]
    sums = {name: sum(getattr(row, name) for row in rows) for name in names}
    return UsageRow(group=group, **sums)


def _dearest(rows: Iterable[UsageRow]) -> list[UsageRow]:
    return sorted(rows, key=lambda row: (-row.cost, -row.saved, row.group))


def _tile(rows: Sequence[UsageRow]) -> Listing:
    """The sums of all rows. The hit ratio is of images: those from the cache among all."""
    sums = usage_sums(rows)
    images = sums["images_bought"] + sums["images_cached"]
    return {**sums, "hit_ratio": sums["images_cached"] / images if images else None}


def _line(row: UsageRow, **group: str) -> Listing:
    sums = usage_sums([row])
    return {**group, **{name: sums[name] for name in _ONE_OF_ALL}}


def _series(
    axis: Sequence[str],
    teams: Sequence[str],
    rows: Iterable[UsageRow],
    total: Iterable[UsageRow],
    *,
    rest: bool,
) -> list[dict[str, Any]]:
    """Each team's spend along the axis, and with `rest` that of all the others together."""
    costs: dict[str, dict[str, int]] = {team: {} for team in teams}
    for row in rows:
        costs[row.group[0]][row.group[1]] = row.cost
    series = [_spend(team, axis, of_team) for team, of_team in costs.items()]
    if rest:
        others = {
            at: max(0, cost - sum(of_team.get(at, 0) for of_team in costs.values()))
            for at, cost in ((row.group[0], row.cost) for row in total)
        }
        series.append(_spend(None, axis, others))
    return series


def _spend(team: str | None, axis: Sequence[str], costs: Mapping[str, int]) -> dict[str, Any]:
    return {"team": team, "cost_usd": [format_usd(costs.get(at, 0)) for at in axis]}


def _latencies(hours: Iterable[Latency], by: str) -> list[Listing]:
    """How long requests took on average, along the axis; where there were none, nothing is told."""
    found: dict[str, Latency] = {}
    for one in hours:
        at = utc(one.hour * HOUR_SECONDS)
        name = at if by == "hour" else at[: len("2026-11-01")]
        found[name] = found[name].plus(one) if name in found else one
    return [
        {
            "day": name,
            "requests": one.requests,
            "own_ms": _milliseconds(one.own.mean),
            "upstream_ms": _milliseconds(one.upstream.mean),
        }
        for name, one in found.items()
    ]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 3)
