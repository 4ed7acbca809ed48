"""Recent requests, errors by kind and latency: one script writes a batch of all three.

Each ring of recent requests is a sorted set whose members all have the score 0, so their texts,
which begin with the place, give the order. Errors are kept by day, each with its hour.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import msgspec

from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import in_turns
from gateway.reporting.request_lines import (
    ERROR_DAYS,
    LATENCY_DAYS,
    LINE_DAYS,
    RINGS,
    ErrorKind,
    ErrorSums,
    HistoryBatch,
    HourLatency,
    LineFilter,
    RequestLine,
    Ring,
    latency_of,
    place_prefix,
    ring_sizes,
)
from gateway.stores.codec import from_values
from gateway.stores.redis import names
from gateway.stores.redis.link import Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument, tuples
from gateway.stores.sums import DAY_HOURS, bounds_of, hour_of

LINES_AT_ONCE = 500
"""Lines of a ring read in one call, to bound how long the server is busy."""

DAYS_AT_ONCE = 2
"""Days of errors read in one call. A day may have thousands of teams' kinds of errors by hour."""

HOURS_AT_ONCE = 1_000
"""Hours of latency read in one call."""

WRITTEN_SECONDS = DAY_SECONDS
"""How long the last batch of a writer is known: longer than any gateway retries."""

_PLACE_CHARS = 29
"""The length of a line's place, which `PLACE` describes."""

_decode_line = msgspec.json.Decoder(RequestLine)
_decode_kind = msgspec.json.Decoder(tuple[int, str | None, str, str | None, int])
"""Hour, team, and the outcome, code and status of an error."""


class RedisHistory(RedisPart):
    """The HistoryStore in a sorted set for each ring, and hashes of errors and latency."""

    @operation("write_activity")
    async def write(self, batch: HistoryBatch) -> None:
        hour = hour_of(batch.at)
        day = hour // DAY_HOURS
        keys = (
            *(names.written(batch.writer), names.errors(day), names.LATENCY),
            *map(names.activity, RINGS),
        )
        kept = (ERROR_DAYS * DAY_SECONDS, (day + 1) * DAY_SECONDS)
        arguments: list[Argument] = [batch.number, WRITTEN_SECONDS, *kept]
        latency = batch.latency
        arguments += ("", "") if latency is None else (latency.hour, latency.numbers())
        arguments.append(len(batch.errors))
        for error in batch.errors:
            kind = error.kind
            name = msgspec.json.encode((hour, error.team, kind.outcome, kind.code, kind.status))
            arguments += (name, kind.requests, repr(kind.last_at), kind.last_id)
        for ring in RINGS:
            stay = "" if batch.keep is None else ring_sizes(batch.keep)[ring]
            lines = [line for line in batch.lines if line.ring == ring]
            members = [line.place.encode() + msgspec.json.encode(line) for line in lines]
            arguments += (stay, len(members), *members)
        await self.link.call("write_activity", keys, *arguments)

    @operation("activity")
    async def lines(
        self, wanted: LineFilter, limit: int, before: str | None = None
    ) -> list[RequestLine]:
        found: list[RequestLine] = []
        left = True
        while left and len(found) < limit:
            page, before = await _page(self.link, before, wanted.since)
            found += filter(wanted.matches, page)
            left = before is not None
        return found[:limit]

    @operation("errors")
    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        first, last = bounds_of(start, end)
        sums = ErrorSums()
        days = iter(range(first // DAY_HOURS, (last - 1) // DAY_HOURS + 1))
        while some := list(islice(days, DAYS_AT_ONCE)):
            found = await self.link.call("sums", [*map(names.errors, some)])
            async for hour, its_team, kind in in_turns(chain(*map(_kinds, found))):
                if first <= hour < last and team in (None, its_team):
                    sums.add(kind)
        return sums.kinds()

    @operation("latency")
    async def latency(self, start: float, end: float) -> list[HourLatency]:
        first, last = bounds_of(start, end)
        found: list[HourLatency] = []
        for begin in range(first, last, HOURS_AT_ONCE):
            hours = range(begin, min(begin + HOURS_AT_ONCE, last))
            values = await self.link.read(names.LATENCY, "HMGET", *hours)
            found += (
                latency_of(hour, value)
                for hour, value in zip(hours, values, strict=True)
                if value is not None
            )
        return found

    @operation("forget_activity")
    async def forget(self, now: float) -> None:
        keys = (names.LATENCY, *map(names.activity, RINGS))
        hour = hour_of(now - LATENCY_DAYS * DAY_SECONDS)
        line = place_prefix(now - LINE_DAYS * DAY_SECONDS)
        await self.link.call("forget_activity", keys, hour, line)


# -- reading --------------------------------------------------------------------------------------


async def _page(link: Link, before: str | None, since: str) -> tuple[list[RequestLine], str | None]:
    """Return the next lines of all rings, the latest first, and the place to go on before.

    The place is None where no line is left.
    """
    rings = [await _read(link, ring, before, since) for ring in RINGS]
    # A ring that was read up to the limit may have more lines between those of other rings.
    ends = [lines[-1].place for lines in rings if len(lines) == LINES_AT_ONCE]
    end = max(ends, default="")
    page = [line for line in chain(*rings) if line.place >= end]
    return sorted(page, key=lambda line: line.place, reverse=True), end or None


async def _read(link: Link, ring: Ring, before: str | None, since: str) -> list[RequestLine]:
    ends = ("+" if before is None else f"({before}", f"[{since}" if since else "-")
    bounds = (*ends, "LIMIT", 0, LINES_AT_ONCE)
    members = await link.read(names.activity(ring), "ZREVRANGEBYLEX", *bounds)
    return [_decode_line.decode(member[_PLACE_CHARS:]) for member in members]


def _kinds(fields: Sequence[bytes]) -> Iterator[tuple[int, str | None, ErrorKind]]:
    """Yield hour, team and error, from a day's fields and values in turn."""
    for field, value in tuples(fields, 2):
        hour, team, *kind = _decode_kind.decode(field)
        requests, at, last_id = value.decode().split(" ", 2)
        values = (*kind, int(requests), float(at), last_id)
        yield hour, team, from_values(ErrorKind, values)
