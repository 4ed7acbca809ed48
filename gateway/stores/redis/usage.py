"""Usage reports, each from the largest packs that contain its groups.

A report takes several calls. Each call reads its packs and sums together, so that what moves into
a pack meanwhile is neither missing nor counted twice.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from msgspec import Struct

from gateway.core.model import UsageRow
from gateway.stores.redis import names, usage_sums
from gateway.stores.redis.link import RedisPart, operation
from gateway.stores.redis.scripts import Argument
from gateway.stores.sums import (
    DAY_HOURS,
    FIELDS,
    TIMES,
    Query,
    Sums,
    day_text,
    hour_text,
    picker,
    query_of,
)

WHOLE_AT_ONCE, PARTS_AT_ONCE = 2, 32
"""Packs read in one call, with all teams or with some, to bound how long the server and the event
loop are busy."""

_ALL = (*TIMES, *FIELDS)
_BY_KEY = ("team", "key", "day")


class Pack(Struct, frozen=True):
    """A pack to read, and its hours."""

    key: str
    first: int
    hours: int

    def has(self, hour: int) -> bool:
        """Whether the pack is of this hour, among others."""
        return self.first <= hour < self.first + self.hours


class RedisUsage(RedisPart):
    """The UsageStore in packs, and the sums of hours that are not packed yet."""

    @operation("usage")
    async def report(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        query = query_of(by, start, end, team)
        if query.teams == ():
            return []
        report = _Report(query)
        unpacked, packed = [await self._hours(key, report) for key in (names.HOURS, names.PACKED)]
        packs = iter(report.packs(sorted({*unpacked, *packed})))
        at_once = WHOLE_AT_ONCE if report.fields is None else PARTS_AT_ONCE
        while some := list(islice(packs, at_once)):
            hours = [hour for hour in unpacked if any(pack.has(hour) for pack in some)]
            keys = [pack.key for pack in some]
            arguments: list[Argument] = [] if report.fields is None else [len(keys), *report.fields]
            keys += [names.usage(hour) for hour in hours]
            found = await self.link.call("sums", keys, *arguments)
            for pack, values in zip(some, found, strict=False):
                report.add_pack(pack, values)
            for hour, values in zip(hours, found[len(some) :], strict=True):
                report.add_hour(hour, values)
        return report.sums.rows()

    @operation("tidy_usage")
    async def tidy(self, now: float, before: float | None) -> bool:
        return await usage_sums.tidy(self.link, now, before)

    async def _hours(self, key: str, report: "_Report") -> list[int]:
        bounds = (report.query.first, f"({report.query.end}")
        found = await self.link.read(key, "ZRANGEBYSCORE", *bounds)
        return [int(hour) for hour in found]


class _Report:
    """The sums of one report, and the packs that they come from."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.sums = Sums()
        by = set(query.by)
        whole_days = query.first % DAY_HOURS == query.end % DAY_HOURS == 0
        self._totals = query.teams is None and by <= set(TIMES)
        self._by_key = not self._totals and whole_days and by <= set(_BY_KEY)
        self._pick_all = picker(query.by, _ALL)

    @property
    def fields(self) -> Sequence[bytes] | None:
        """The fields to read of each pack; None for all."""
        if self._totals:
            return [usage_sums.TOTALS]
        teams = self.query.teams
        return None if teams is None else [usage_sums.team_field(team) for team in teams]

    def packs(self, hours: Iterable[int]) -> list[Pack]:
        """Return the packs to read for these hours."""
        return list(dict.fromkeys(map(self._pack, hours)))

    def _pack(self, hour: int) -> Pack:
        week = hour // usage_sums.WEEK_HOURS * usage_sums.WEEK_HOURS
        whole_week = self.query.first <= week and week + usage_sums.WEEK_HOURS <= self.query.end
        if self._by_key and "day" not in self.query.by and whole_week:
            return Pack(names.week_pack(hour // usage_sums.WEEK_HOURS), week, usage_sums.WEEK_HOURS)
        if self._by_key or self._totals:
            day = hour // DAY_HOURS
            return Pack(names.day_pack(day), day * DAY_HOURS, DAY_HOURS)
        return Pack(names.hour_pack(hour), hour, 1)

    def add_pack(self, pack: Pack, values: Sequence[Any]) -> None:
        """Add a pack's sums, as `sums.lua` returns them."""
        if self._totals:
            self._add_totals(values[0])
            return
        fields = ("key",) if self._by_key else FIELDS[1:]
        day = day_text(pack.first // DAY_HOURS)
        pick = picker(self.query.by, ("hour", "day", "team", *fields))
        add, hour = self.sums.add, hour_text(pack.first)
        for team, rows in self._rows(values):
            for group, numbers in rows:
                add(pick((hour, day, team, *group)), numbers)

    def _rows(self, values: Sequence[Any]) -> Iterable[tuple[str, usage_sums.Rows]]:
        if self.query.teams is None:
            return usage_sums.teams_in(values)
        texts = zip(self.query.teams, values, strict=True)
        return ((team, usage_sums.decode_rows(text)) for team, text in texts if text is not None)

    def _add_totals(self, text: bytes | None) -> None:
        pick = picker(self.query.by, TIMES)
        for (hour,), numbers in [] if text is None else usage_sums.decode_rows(text):
            if self.query.first <= int(hour) < self.query.end:
                self.sums.add(pick(_times(int(hour))), numbers)

    def add_hour(self, hour: int, values: Sequence[bytes]) -> None:
        """Add the sums of an hour that are not packed yet."""
        times = _times(hour)
        for group, numbers in usage_sums.groups(values):
            if self.query.teams is None or group[0] in self.query.teams:
                self.sums.add(self._pick_all((*times, *group)), numbers)


def _times(hour: int) -> tuple[str, str]:
    return hour_text(hour), day_text(hour // DAY_HOURS)
