"""Queries about the request history: recent requests, and errors by kind."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.core.key_format import PREFIX
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.reporting.request_lines import (
    ERROR_DAYS,
    PLACE,
    ErrorKind,
    LineFilter,
    RequestLine,
    place_prefix,
)
from gateway.reporting.store import HistoryStore
from gateway.reporting.time_span import Span, check_hours, check_order

MOST_REQUESTS = 1_000
"""The most requests on one page."""


class ActivityQuery(Span, frozen=True, kw_only=True):
    """Selects recent requests. Without `from` the span starts with the oldest one.

    `before` is the `next` of the previous page.
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


class ActivityPage(Struct, frozen=True, kw_only=True):
    """Requests, the latest first. Pass `next` as `before` to get the next page."""

    requests: list[RequestLine]
    next: str | None


class ErrorQuery(Span, frozen=True, kw_only=True):
    """Selects errors. Without `from` the span is the last 24 hours."""

    team: str | None = None


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
