"""What a report of usage is asked for with, wherever it is asked: groups, days, a team."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.core.faults import InvalidField
from gateway.core.key_format import PREFIX
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, end_of_month, month_of
from gateway.reporting.request_lines import ERROR_DAYS, PLACE, Wanted
from gateway.reporting.request_lines import moment as place_of
from gateway.reporting.store import HistoryStore, UsageStore
from gateway.reporting.views import error_listing, line_listing, usage_listing
from gateway.tenants.views import Listing

TeamGroup = Literal["key", "model", "size", "quality", "outcome", "hour", "day"]
Group = Literal["team", "key", "model", "size", "quality", "outcome", "hour", "day"]


def _time(text: str) -> str:
    moment(text)
    return text


Time = Annotated[
    str,
    Meta(
        description="a day (2026-11-01) or a time with its zone (2026-11-01T12:00:00Z; of usage "
        "and errors on the hour), in the years 1970 to 9998",
        extra={"read": _time},
    ),
]


class Span(Struct, frozen=True, kw_only=True):
    """From when to when, in UTC: a `to` that is a day is included, one with a time is not.

    Without `from` it begins with this month.
    """

    first: Time | None = field(name="from", default=None)
    last: Time | None = field(name="to", default=None)


class TeamUsageQuery(Span, frozen=True, kw_only=True):
    """What a team may ask about its own usage."""

    by: tuple[TeamGroup, ...] = ("model",)


class UsageQuery(Span, frozen=True, kw_only=True):
    """What an operator may ask about usage."""

    by: tuple[Group, ...] = ("team",)
    team: str | None = None
    format: Literal["json", "csv"] = "json"


def moment(text: str, *, ends: bool = False) -> float:
    """Seconds since the epoch of a day or a time; where it `ends` something, a day's end.

    Raises ValueError.
    """
    at = datetime.fromisoformat(text)
    if not 1970 <= at.year <= 9998:
        raise ValueError("too far away")
    if len(text) == len("2026-11-01"):
        return at.replace(tzinfo=UTC).timestamp() + (DAY_SECONDS if ends else 0)
    if at.tzinfo is None:
        raise ValueError("no zone")
    return at.timestamp()


def bounds(span: Span, now: float) -> tuple[float, float | None]:
    """When the span begins and ends.

    Raises ValueError where it ends before it begins, or is not of whole hours: the history is not
    kept any finer.
    """
    start = end_of_month(month_of(now) - 1) if span.first is None else moment(span.first)
    end = None if span.last is None else moment(span.last, ends=True)
    if end is not None and end <= start:
        raise InvalidField("to", "is before from")
    check_hours(start, end)
    return start, end


def check_hours(start: float | None, end: float | None) -> None:
    """Raise ValueError where one is not on the hour: what is counted by the hour could not tell."""
    for name, at in (("from", start), ("to", end)):
        if at is not None and at % HOUR_SECONDS:
            raise InvalidField(name, "is not on the hour (UTC): this is counted by the hour")


async def usage_pieces(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> AsyncGenerator[list[Listing], None]:
    """The rows of a report as they are listed, not all of them in memory at once: where they go by
    hour or day, one day after the other. Raises StoreUnavailable.
    """
    if not {"hour", "day"} & set(by):
        yield await read_usage(store, by, start, end, team)
        return
    for row in await store.report(["day"], start, end, team):
        day = moment(row.group[0])
        last = day + DAY_SECONDS if end is None else min(end, day + DAY_SECONDS)
        yield await read_usage(store, by, max(start, day), last, team)


async def read_usage(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> list[Listing]:
    """The rows of a report, as they are listed. Raises StoreUnavailable."""
    by = tuple(dict.fromkeys(by))
    return [usage_listing(by, row) for row in await store.report(by, start, end, team)]


MOST_REQUESTS = 1_000
"""Requests told in one answer."""


ERROR_SPAN_DAYS = 1
"""How far back errors are told of where nothing is said."""


class ActivityQuery(Span, frozen=True, kw_only=True):
    """Which recent requests: without `from`, from the first one that is kept. `before` is the
    `next` of the page before.
    """

    team: str | None = None
    key: str | None = None
    outcome: str | None = None
    id: str | None = None
    errors: bool = False
    limit: Annotated[int, Meta(ge=1, le=MOST_REQUESTS)] = 100
    before: Annotated[str, Meta(pattern=PLACE, description="the next of another page")] | None = (
        None
    )


class ErrorQuery(Span, frozen=True, kw_only=True):
    """Which errors: without `from`, those since this time yesterday."""

    team: str | None = None


async def read_activity(
    store: HistoryStore, query: ActivityQuery
) -> tuple[list[Listing], str | None]:
    """A page of requests as they are listed, the latest first, and what asks for the next page;
    None where there is none. Raises ValueError, StoreUnavailable.
    """
    first = None if query.first is None else moment(query.first)
    last = None if query.last is None else moment(query.last, ends=True)
    if first is not None and last is not None and last <= first:
        raise InvalidField("to", "is before from")
    ends = [query.before, None if last is None else place_of(last)]
    wanted = Wanted(
        team=query.team,
        key=None if query.key is None else query.key.removeprefix(PREFIX),
        outcome=query.outcome,
        id=query.id,
        errors=query.errors,
        since="" if first is None else place_of(first),
    )
    before = min((end for end in ends if end is not None), default=None)
    found = await store.lines(wanted, query.limit + 1, before)
    page = found[: query.limit]
    return list(map(line_listing, page)), page[-1].place if len(found) > query.limit else None


async def read_errors(store: HistoryStore, query: ErrorQuery, now: float) -> list[Listing]:
    """Errors by kind, the most frequent first. Raises ValueError, StoreUnavailable."""
    start, end = _error_span(query, now)
    return list(map(error_listing, await store.errors(start, end, query.team)))


def _error_span(query: ErrorQuery, now: float) -> tuple[float, float]:
    """From when to when, in whole hours, and not beyond what there can be. Raises ValueError."""
    first = None if query.first is None else moment(query.first)
    last = None if query.last is None else moment(query.last, ends=True)
    check_hours(first, last)
    end = now + DAY_SECONDS if last is None else last
    start = min(now, end) - ERROR_SPAN_DAYS * DAY_SECONDS if first is None else first
    if end <= start:
        raise InvalidField("to", "is before from")
    start = max(start, now - (ERROR_DAYS + 1) * DAY_SECONDS)
    return start // HOUR_SECONDS * HOUR_SECONDS, min(end, now + DAY_SECONDS)
