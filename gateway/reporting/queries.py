"""The queries of reports: their time span, usage, recent requests, and errors by kind."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from gateway.core.bounds import MOST_DAYS, MOST_GROUPS, MOST_REQUESTS, TEAM_DAYS, Text
from gateway.core.faults import Fault, InvalidFields
from gateway.core.key_format import PREFIX, KeyId, public_id
from gateway.core.listing import Listing, listing
from gateway.core.model import UsageRow, UsageSums, sum_usage
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, end_of_month, month_of
from gateway.core.tasks import in_turns
from gateway.reporting.request_lines import (
    ERROR_DAYS,
    PLACE,
    ErrorKind,
    LineFilter,
    RequestLine,
    place_prefix,
)
from gateway.reporting.store import HistoryStore, UsageStore

PIECE_ROWS = 500
"""Rows of a report that are encoded and sent at once."""


# -- time spans -----------------------------------------------------------------------------------


def parse_time(text: str, *, ends: bool = False) -> float:
    """Return the seconds since the epoch of a day or of a time with its zone.

    Of a day this is its start, or with `ends` its end. Raises ValueError.
    """
    at = datetime.fromisoformat(text)
    if not 1970 <= at.year <= 9998:
        raise ValueError("must be in the years 1970 to 9998")
    if len(text) == len("2026-11-01"):
        return at.replace(tzinfo=UTC).timestamp() + (DAY_SECONDS if ends else 0)
    if at.tzinfo is None:
        raise ValueError("a time needs a zone")
    return at.timestamp()


Time = Annotated[
    str,
    Meta(
        description="a day (2026-11-01) or a time with its zone (2026-11-01T12:00:00Z; of usage "
        "and errors on the hour), in the years 1970 to 9998",
        extra={"check": parse_time},
    ),
]


class Span(Struct, frozen=True, kw_only=True):
    """A span of time in UTC. A `to` that is a day is included, a `to` with a time is not."""

    most_days: ClassVar[int] = MOST_DAYS

    first: Time | None = field(name="from", default=None)
    last: Time | None = field(name="to", default=None)

    def bounds(self) -> tuple[float | None, float | None]:
        """Return start and end where they are given. Raises InvalidFields."""
        start = None if self.first is None else parse_time(self.first)
        end = None if self.last is None else parse_time(self.last, ends=True)
        check_order(start, end)
        return start, end


def check_days(span: Span, now: float) -> None:
    """Raise InvalidFields if a span has more than its most days."""
    start, end = span.bounds()
    first, last = now if start is None else start, now if end is None else end
    days = ceil((last - first) / DAY_SECONDS)
    if days <= span.most_days:
        return
    name, place = ("to", "after now") if start is None else ("from", "before to")
    raise InvalidFields(
        [Fault((name,), f"is {days} days {place}; at most {span.most_days} are allowed")]
    )


def check_order(start: float | None, end: float | None) -> None:
    """Raise InvalidFields if the end is not after the start."""
    if start is not None and end is not None and end <= start:
        raise InvalidFields([Fault(("to",), "is before from")])


def check_hours(start: float | None, end: float | None) -> None:
    """Raise InvalidFields if a bound is not on the hour: usage is only counted by the hour."""
    for name, at in (("from", start), ("to", end)):
        if at is not None and at % HOUR_SECONDS:
            reason = "is not on the hour (UTC): this is counted by the hour"
            raise InvalidFields([Fault((name,), reason)])


# -- usage ----------------------------------------------------------------------------------------

TeamGroup = Literal["key", "model", "size", "quality", "outcome", "hour", "day"]
Group = Literal["team", "key", "model", "size", "quality", "outcome", "hour", "day"]


class TeamUsageQuery(Span, frozen=True, kw_only=True):
    """A team's query about its own usage. Without `from` the span starts with this month."""

    most_days: ClassVar[int] = TEAM_DAYS

    by: Annotated[tuple[TeamGroup, ...], Meta(max_length=MOST_GROUPS)] = ("model",)


class UsageQuery(Span, frozen=True, kw_only=True):
    """An operator's query about usage. Without `from` the span starts with this month."""

    by: Annotated[tuple[Group, ...], Meta(max_length=MOST_GROUPS)] = ("team",)
    team: Text | None = None
    format: Literal["json", "csv"] = "json"


class UsageLine(UsageSums, frozen=True, kw_only=True):
    """One row of a usage report: the fields of the grouping, then the sums.

    `requests` were served from the cache or sent to the upstream. `requests_refused` were refused
    before that. Neither counts a cache miss of only-if-cached.
    """

    team: str | UnsetType = UNSET
    key: KeyId | UnsetType = UNSET
    model: str | UnsetType = UNSET
    size: str | UnsetType = UNSET
    quality: str | UnsetType = UNSET
    outcome: str | UnsetType = UNSET
    hour: str | UnsetType = UNSET
    day: str | UnsetType = UNSET


SUMS = tuple(listing(UsageSums()))
"""The names of the sums in a row."""


def usage_bounds(span: Span, now: float) -> tuple[float, float | None]:
    """Return start and end of a usage report.

    Raises InvalidFields if the span ends before it starts, or is not of whole hours.
    """
    first, end = span.bounds()
    start = end_of_month(month_of(now) - 1) if first is None else first
    check_order(start, end)
    check_hours(start, end)
    return start, end


async def usage_pieces(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> AsyncGenerator[list[Listing], None]:
    """Yield the rows of a report in pieces, so that a long report fits in memory.

    Reports by hour or day are read one day at a time. Raises StoreUnavailable.
    """
    by = tuple(dict.fromkeys(by))
    async for rows in _days_of_usage(store, by, start, end, team):
        for first in range(0, len(rows), PIECE_ROWS):
            piece = in_turns(rows[first : first + PIECE_ROWS])
            yield [usage_listing(by, row) async for row in piece]
            await asyncio.sleep(0)  # a client that reads quickly does not make its sender wait


async def _days_of_usage(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> AsyncGenerator[list[UsageRow], None]:
    if not {"hour", "day"} & set(by):
        yield await store.report(by, start, end, team)
        return
    for row in await store.report(["day"], start, end, team):
        day = parse_time(row.group[0])
        last = day + DAY_SECONDS if end is None else min(end, day + DAY_SECONDS)
        yield await store.report(by, max(start, day), last, team)


def usage_listing(by: Sequence[str], row: UsageRow) -> Listing:
    """Return a row: the fields of its grouping, then the sums."""
    group = {
        field: public_id(value) if field == "key" else value
        for field, value in zip(by, row.group, strict=True)
    }
    sums = listing(row)
    del sums["group"]
    return group | sums


def usage_total(by: Sequence[str], rows: Sequence[UsageRow]) -> Listing:
    """Return the total of all rows, for the last line of a table."""
    group = dict.fromkeys(by, "") | dict.fromkeys(by[:1], "total")
    return group | listing(sum_usage(rows))


# -- request history ------------------------------------------------------------------------------


class ActivityQuery(Span, frozen=True, kw_only=True):
    """Selects recent requests. Without `from` the span starts with the oldest one.

    `before` is the `next` of the previous page.
    """

    team: Text | None = None
    key: Text | None = None
    outcome: Text | None = None
    id: Text | None = None
    errors: bool = False
    limit: Annotated[int, Meta(ge=1, le=MOST_REQUESTS)] = 100
    before: Annotated[str, Meta(pattern=PLACE, description="`next` of the page before")] | None = (
        None
    )


class ActivityPage(Struct, frozen=True, kw_only=True):
    """Requests, the latest first. Pass `next` as `before` to get the next page."""

    requests: list[RequestLine]
    next: str | None


class ErrorQuery(Span, frozen=True, kw_only=True):
    """Selects errors. Without `from` the span is the last 24 hours."""

    team: Text | None = None


class ErrorPage(Struct, frozen=True, kw_only=True):
    """Errors by kind, the most frequent first."""

    kinds: list[ErrorKind]


async def read_activity(store: HistoryStore, query: ActivityQuery) -> ActivityPage:
    """Return a page of recent requests. Raises InvalidFields, StoreUnavailable."""
    start, end = query.bounds()
    ends = [query.before, None if end is None else place_prefix(end)]
    wanted = LineFilter(
        team=query.team,
        key=None if query.key is None else query.key.removeprefix(PREFIX),
        outcome=query.outcome,
        id=query.id,
        errors=query.errors,
        since="" if start is None else place_prefix(start),
    )
    before = min((place for place in ends if place is not None), default=None)
    # One more than the page holds shows whether there is a next page.
    found = await store.lines(wanted, query.limit + 1, before)
    page = found[: query.limit]
    return ActivityPage(requests=page, next=page[-1].place if len(found) > query.limit else None)


async def read_errors(store: HistoryStore, query: ErrorQuery, now: float) -> ErrorPage:
    """Return the errors of a span by kind. Raises InvalidFields, StoreUnavailable."""
    start, end = _error_bounds(query, now)
    return ErrorPage(kinds=await store.errors(start, end, query.team))


def _error_bounds(query: ErrorQuery, now: float) -> tuple[float, float]:
    """Return start and end in whole hours, within the retention of errors. Raises InvalidFields."""
    first, last = query.bounds()
    check_hours(first, last)
    end = now + DAY_SECONDS if last is None else last
    start = min(now, end) - DAY_SECONDS if first is None else first
    check_order(start, end)
    start = max(start, now - (ERROR_DAYS + 1) * DAY_SECONDS)
    return start // HOUR_SECONDS * HOUR_SECONDS, min(end, now + DAY_SECONDS)
