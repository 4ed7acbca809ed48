"""The overview of a span of days: spend and savings, by team, key and time.

It takes a handful of small reports. None of them has a row for each day and team: the first
report finds the teams with the highest cost, and only their spend is read day by day.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, field
from msgspec.structs import asdict

from gateway.core.key_format import KeyId
from gateway.core.model import UsageRow, UsageSums, sum_usage
from gateway.core.money import MicroDollars
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, day_of, day_text, utc
from gateway.core.tasks import in_turns
from gateway.reporting.queries import check_order
from gateway.reporting.request_lines import HourLatency
from gateway.reporting.store import HistoryStore, UsageStore

TOP = 10
"""Teams and keys that are listed one by one: those with the highest cost."""

HOURLY_DAYS = 2
"""Spans of up to so many days are shown by the hour."""

DEFAULT_DAYS = 30

_DATE_CHARS = len("2026-11-01")


class Days(Struct, frozen=True):
    """A span of days, counted since 1970. The last one is included."""

    first: int
    last: int

    @property
    def start(self) -> float:
        """When the first day starts."""
        return float(self.first * DAY_SECONDS)

    @property
    def end(self) -> float:
        """When the last day ends."""
        return float((self.last + 1) * DAY_SECONDS)

    @property
    def before(self) -> "Days":
        """The previous span of the same length."""
        return Days(2 * self.first - self.last - 1, self.first - 1)

    @property
    def by(self) -> str:
        """The unit of the time axis: "hour" or "day"."""
        return "hour" if self.last - self.first < HOURLY_DAYS else "day"

    def axis(self, now: float) -> list[str]:
        """Return the time axis: all days, or the hours up to now."""
        if self.by == "day":
            return [day_text(day) for day in range(self.first, self.last + 1)]
        end = max(self.start + HOUR_SECONDS, min(self.end, now))
        return [utc(at) for at in range(int(self.start), int(end), HOUR_SECONDS)]


class Tile(UsageSums, frozen=True, kw_only=True):
    """The sums of a span. `hit_ratio` is cached images over all images, or null without images."""

    hit_ratio: float | None


class SpendSeries(Struct, frozen=True, kw_only=True):
    """A team's spend along the axis. The team is null for all teams without their own series."""

    team: str | None
    cost: list[MicroDollars]


class TeamLine(Struct, frozen=True, kw_only=True):
    """Spend and savings of a team."""

    team: str
    cost: MicroDollars
    saved: MicroDollars
    images_bought: int
    images_cached: int
    requests: int
    requests_refused: int


class KeyLine(TeamLine, frozen=True, kw_only=True):
    """Spend and savings of a line of keys."""

    key: KeyId


class LatencyPoint(Struct, frozen=True, kw_only=True):
    """Mean latency in milliseconds: of the gateway itself, and of upstream calls.

    `day` is an hour if the axis has hours. A mean is null without requests.
    """

    day: str
    requests: int
    own_ms: float | None
    upstream_ms: float | None


class Overview(Struct, frozen=True, kw_only=True):
    """Spend and savings of a span. Spans include their last day.

    `days` is the axis of the series; it has hours if the span has at most two days. `teams` and
    `keys` are the ten with the highest cost.
    """

    first: str = field(name="from")
    last: str = field(name="to")
    before_from: str
    before_to: str
    now: Tile
    before: Tile
    days: list[str]
    series: list[SpendSeries]
    teams: list[TeamLine]
    keys: list[KeyLine]
    latency: list[LatencyPoint]


def days_between(first: float | None, last: float | None, now: float) -> Days:
    """Return the span from the day of one time to the day of another.

    By default it has 30 days and ends today. Raises InvalidFields if it ends before it starts.
    """
    last_day = day_of(now if last is None else last)
    first_day = last_day - DEFAULT_DAYS + 1 if first is None else day_of(first)
    check_order(first_day, last_day + 1)
    return Days(max(0, first_day), last_day)


async def read_overview(
    usage: UsageStore, history: HistoryStore, days: Days, team: str | None, now: float
) -> Overview:
    """Read the overview of one team, or of all. Latency is always that of all teams.

    Raises StoreUnavailable.
    """
    by_key = await usage.report(["team", "key"], days.start, days.end, team)
    former = await usage.report([], days.before.start, days.start, team)
    teams = _by_cost(await _by_team(by_key))
    top = [row.group[0] for row in teams[:TOP]]
    # Read before the total: spend recorded in between is then in the rest, and not missing there.
    series = await usage.report(["team", days.by], days.start, days.end, top)
    total = await usage.report([days.by], days.start, days.end, team)
    axis = days.axis(now)
    return Overview(
        first=day_text(days.first),
        last=day_text(days.last),
        before_from=day_text(days.before.first),
        before_to=day_text(days.before.last),
        now=_tile(by_key),
        before=_tile(former),
        days=axis,
        series=_series(axis, top, series, total, rest=len(teams) > TOP),
        teams=[TeamLine(team=row.group[0], **_sums(row)) for row in teams[:TOP]],
        keys=[
            KeyLine(team=row.group[0], key=row.group[1], **_sums(row))
            for row in _by_cost(by_key)[:TOP]
        ],
        latency=await _latency(await history.latency(days.start, days.end), days.by),
    )


async def _by_team(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Sum up rows by team and key into rows by team."""
    found: dict[str, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(row.group[0], []).append(row)
    return [
        UsageRow(group=(team,), **asdict(sum_usage(of_team)))
        async for team, of_team in in_turns(found.items())
    ]


def _by_cost(rows: Iterable[UsageRow]) -> list[UsageRow]:
    return sorted(rows, key=lambda row: (-row.cost, -row.saved, row.group))


def _tile(rows: Iterable[UsageRow]) -> Tile:
    sums = sum_usage(rows)
    images = sums.images_bought + sums.images_cached
    return Tile(**asdict(sums), hit_ratio=sums.images_cached / images if images else None)


def _sums(row: UsageRow) -> dict[str, int]:
    names = set(TeamLine.__struct_fields__) & set(UsageSums.__struct_fields__)
    return {name: getattr(row, name) for name in names}


def _series(
    axis: Sequence[str],
    teams: Sequence[str],
    rows: Iterable[UsageRow],
    total: Iterable[UsageRow],
    *,
    rest: bool,
) -> list[SpendSeries]:
    """Return each team's spend along the axis, and with `rest` the spend of all others."""
    costs: dict[str | None, dict[str, int]] = {team: {} for team in teams}
    for row in rows:
        costs[row.group[0]][row.group[1]] = row.cost
    if rest:
        spent = {row.group[0]: row.cost for row in total}
        for of_team in list(costs.values()):
            for at, cost in of_team.items():
                spent[at] = max(0, spent.get(at, 0) - cost)
        costs[None] = spent
    return [
        SpendSeries(team=team, cost=[of_team.get(at, 0) for at in axis])
        for team, of_team in costs.items()
    ]


async def _latency(hours: Iterable[HourLatency], by: str) -> list[LatencyPoint]:
    """Return the mean latency along the axis, without points for times without requests."""
    found: dict[str, HourLatency] = {}
    async for hour in in_turns(hours):
        at = utc(hour.hour * HOUR_SECONDS)
        name = at if by == "hour" else at[:_DATE_CHARS]
        found[name] = found[name].plus(hour) if name in found else hour
    return [
        LatencyPoint(
            day=name,
            requests=point.own.count,
            own_ms=point.own.mean_ms,
            upstream_ms=point.upstream.mean_ms,
        )
        for name, point in found.items()
    ]
