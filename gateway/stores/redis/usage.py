"""Usage reports, each from the largest packs that contain its groups.

A report takes several calls. Each call reads its packs and sums together, so that what moves into
a pack meanwhile is neither missing nor counted twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from gateway.core.model import UsageRow
from gateway.core.periods import day_text, hour_text
from gateway.stores.redis import names, usage_sums
from gateway.stores.redis.link import RedisPart, operation
from gateway.stores.redis.scripts import Argument
from gateway.stores.report import add_all, rows_of
from gateway.stores.sums import (
    DAY_HOURS,
    FIELDS,
    TIMES,
    Group,
    Numbers,
    Query,
    Sums,
    picker,
    query_of,
)

WHOLE_AT_ONCE, PARTS_AT_ONCE = 2, 32
"""Packs read in one call, with all teams or with some, to bound how long the server and the event
loop are busy."""

Found = Iterator[tuple[Group, Numbers]]

_ALL = (*TIMES, *FIELDS)
_BY_KEY = ("team", "key", "day")


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
        report, sums = _Report(query), Sums()
        unpacked, packed = [await self._hours(key, query) for key in (names.HOURS, names.PACKED)]
        # The packs to read, each with those of its hours that have sums which are not packed yet.
        packs: dict[tuple[str, int], list[int]] = {}
        for hour in sorted(unpacked | packed):
            hours = packs.setdefault(report.pack(hour), [])
            if hour in unpacked:
                hours.append(hour)
        coming = iter(packs.items())
        at_once = WHOLE_AT_ONCE if report.fields is None else PARTS_AT_ONCE
        while some := dict(islice(coming, at_once)):
            hours = list(chain(*some.values()))
            keys = [key for key, _ in some]
            arguments: list[Argument] = [] if report.fields is None else [len(keys), *report.fields]
            keys += [names.usage(hour) for hour in hours]
            found = await self.link.call("sums", keys, *arguments)
            # The reply has the packs first, then the hours.
            for (_, first), values in zip(some, found, strict=False):
                await add_all(sums, report.of_pack(first, values))
            for hour, values in zip(hours, found[len(some) :], strict=True):
                await add_all(sums, report.of_hour(hour, values))
        return await rows_of(sums)

    @operation("tidy_usage")
    async def tidy(self, now: float, before: float | None) -> bool:
        return await usage_sums.tidy(self.link, now, before)

    async def _hours(self, key: str, query: Query) -> set[int]:
        found = await self.link.read(key, "ZRANGEBYSCORE", query.first, f"({query.end}")
        return {int(hour) for hour in found}


class _Report:
    """The packs that one report comes from, and the groups and numbers in them."""

    def __init__(self, query: Query) -> None:
        self.query = query
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

    def pack(self, hour: int) -> tuple[str, int]:
        """Return the key of the pack to read for an hour, and the first hour of that pack."""
        first = hour // usage_sums.WEEK_HOURS * usage_sums.WEEK_HOURS
        end = first + usage_sums.WEEK_HOURS
        whole_week = self.query.first <= first and end <= self.query.end
        if self._by_key and "day" not in self.query.by and whole_week:
            return names.week_pack(hour // usage_sums.WEEK_HOURS), first
        if self._by_key or self._totals:
            return names.day_pack(hour // DAY_HOURS), hour // DAY_HOURS * DAY_HOURS
        return names.hour_pack(hour), hour

    def of_pack(self, first: int, values: Sequence[Any]) -> Found:
        """Yield the sums of the pack that begins with this hour, as `sums.lua` returns them."""
        if self._totals:
            yield from self._of_totals(values[0])
            return
        fields = ("key",) if self._by_key else FIELDS[1:]
        day = day_text(first // DAY_HOURS)
        pick = picker(self.query.by, ("hour", "day", "team", *fields))
        hour = hour_text(first)
        for team, rows in self._rows(values):
            for group, numbers in rows:
                yield pick((hour, day, team, *group)), numbers

    def _rows(self, values: Sequence[Any]) -> Iterable[tuple[str, usage_sums.Rows]]:
        if self.query.teams is None:
            return usage_sums.teams_in(values)
        texts = zip(self.query.teams, values, strict=True)
        return ((team, usage_sums.decode_rows(text)) for team, text in texts if text is not None)

    def _of_totals(self, text: bytes | None) -> Found:
        pick = picker(self.query.by, TIMES)
        for (hour,), numbers in [] if text is None else usage_sums.decode_rows(text):
            if self.query.first <= int(hour) < self.query.end:
                yield pick(_times(int(hour))), numbers

    def of_hour(self, hour: int, values: Sequence[bytes]) -> Found:
        """Yield the sums of an hour that are not packed yet."""
        times = _times(hour)
        for group, numbers in usage_sums.groups(values):
            if self.query.teams is None or group[0] in self.query.teams:
                yield self._pick_all((*times, *group)), numbers


def _times(hour: int) -> tuple[str, str]:
    return hour_text(hour), day_text(hour // DAY_HOURS)
