"""Usage reports: their query, and their rows in public form."""

from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from msgspec import UNSET, UnsetType

from gateway.core.key_format import KeyId, public_id
from gateway.core.listing import Listing, listing
from gateway.core.model import UsageRow, UsageSums, sum_usage
from gateway.core.periods import DAY_SECONDS, end_of_month, month_of
from gateway.reporting.store import UsageStore
from gateway.reporting.time_span import Span, check_hours, check_order, parse_time

TeamGroup = Literal["key", "model", "size", "quality", "outcome", "hour", "day"]
Group = Literal["team", "key", "model", "size", "quality", "outcome", "hour", "day"]


class TeamUsageQuery(Span, frozen=True, kw_only=True):
    """A team's query about its own usage. Without `from` the span starts with this month."""

    by: tuple[TeamGroup, ...] = ("model",)


class UsageQuery(Span, frozen=True, kw_only=True):
    """An operator's query about usage. Without `from` the span starts with this month."""

    by: tuple[Group, ...] = ("team",)
    team: str | None = None
    format: Literal["json", "csv"] = "json"


class UsageLine(UsageSums, frozen=True, kw_only=True):
    """One row of a usage report: the fields of the grouping, then the sums.

    `requests` were served from the cache or sent upstream. Requests that were refused before that
    are `requests_refused`. Neither counts a cache miss of only-if-cached.
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

    Reports by hour or day come one day at a time. Raises StoreUnavailable.
    """
    if not {"hour", "day"} & set(by):
        yield await read_usage(store, by, start, end, team)
        return
    for row in await store.report(["day"], start, end, team):
        day = parse_time(row.group[0])
        last = day + DAY_SECONDS if end is None else min(end, day + DAY_SECONDS)
        yield await read_usage(store, by, max(start, day), last, team)


async def read_usage(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> list[Listing]:
    """Return the rows of a report. Raises StoreUnavailable."""
    by = tuple(dict.fromkeys(by))
    return [usage_listing(by, row) for row in await store.report(by, start, end, team)]


def usage_listing(by: Sequence[str], row: UsageRow) -> Listing:
    """Return a row: the fields of its grouping, then the sums."""
    group = {
        field: public_id(value) if field == "key" else value
        for field, value in zip(by, row.group, strict=True)
    }
    return group | listing(sum_usage([row]))


def usage_total(by: Sequence[str], rows: Sequence[UsageRow]) -> Listing:
    """Return the total of all rows, for the last line of a table."""
    group = dict.fromkeys(by, "") | dict.fromkeys(by[:1], "total")
    return group | listing(sum_usage(rows))
