"""What recent requests and errors are asked for with, wherever they are asked for."""

from typing import Annotated

from msgspec import Meta

from gateway.listing import Listing, error_listing, line_listing
from gateway.ports import ActivityStore
from gateway.rules.activity import ERROR_DAYS, PLACE, Wanted
from gateway.rules.activity import moment as place_of
from gateway.rules.keys import PREFIX
from gateway.rules.windows import DAY_SECONDS, HOUR_SECONDS
from gateway.usage_query import Span, check_hours, moment

MOST = 1_000
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
    limit: Annotated[int, Meta(ge=1, le=MOST)] = 100
    before: Annotated[str, Meta(pattern=PLACE, description="the next of another page")] | None = (
        None
    )


class ErrorQuery(Span, frozen=True, kw_only=True):
    """Which errors: without `from`, those since this time yesterday."""

    team: str | None = None


async def read_activity(
    store: ActivityStore, query: ActivityQuery
) -> tuple[list[Listing], str | None]:
    """A page of requests as they are listed, the latest first, and what asks for the next page;
    None where there is none. Raises ValueError, StoreUnavailable.
    """
    first = None if query.first is None else moment(query.first)
    last = None if query.last is None else moment(query.last, ends=True)
    if first is not None and last is not None and last <= first:
        raise ValueError("to: is before from")
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
    found = await store.activity(wanted, query.limit + 1, before)
    page = found[: query.limit]
    return list(map(line_listing, page)), page[-1].place if len(found) > query.limit else None


async def read_errors(store: ActivityStore, query: ErrorQuery, now: float) -> list[Listing]:
    """Errors by kind, the most frequent first. Raises ValueError, StoreUnavailable."""
    start, end = _span(query, now)
    return list(map(error_listing, await store.errors(start, end, query.team)))


def _span(query: ErrorQuery, now: float) -> tuple[float, float]:
    """From when to when, in whole hours, and not beyond what there can be. Raises ValueError."""
    first = None if query.first is None else moment(query.first)
    last = None if query.last is None else moment(query.last, ends=True)
    check_hours(first, last)
    end = now + DAY_SECONDS if last is None else last
    start = min(now, end) - ERROR_SPAN_DAYS * DAY_SECONDS if first is None else first
    if end <= start:
        raise ValueError("to: is before from")
    start = max(start, now - (ERROR_DAYS + 1) * DAY_SECONDS)
    return start // HOUR_SECONDS * HOUR_SECONDS, min(end, now + DAY_SECONDS)
