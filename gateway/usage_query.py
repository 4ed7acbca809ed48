"""What a report of usage is asked for with, wherever it is asked: groups, days, a team."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.listing import Listing, usage_listing
from gateway.ports import UsageStore
from gateway.rules.windows import DAY_SECONDS, HOUR_SECONDS, end_of_month, month_of

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
        raise ValueError("to: is before from")
    check_hours(start, end)
    return start, end


def check_hours(start: float | None, end: float | None) -> None:
    """Raise ValueError where one is not on the hour: what is counted by the hour could not tell."""
    for name, at in (("from", start), ("to", end)):
        if at is not None and at % HOUR_SECONDS:
            raise ValueError(f"{name}: is not on the hour (UTC): this is counted by the hour")


async def usage_pieces(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> AsyncGenerator[list[Listing], None]:
    """The rows of a report as they are listed, not all of them in memory at once: where they go by
    hour or day, one day after the other. Raises StoreUnavailable.
    """
    if not {"hour", "day"} & set(by):
        yield await read_usage(store, by, start, end, team)
        return
    for row in await store.usage(["day"], start, end, team):
        day = moment(row.group[0])
        last = day + DAY_SECONDS if end is None else min(end, day + DAY_SECONDS)
        yield await read_usage(store, by, max(start, day), last, team)


async def read_usage(
    store: UsageStore, by: Sequence[str], start: float, end: float | None, team: str | None
) -> list[Listing]:
    """The rows of a report, as they are listed. Raises StoreUnavailable."""
    by = tuple(dict.fromkeys(by))
    return [usage_listing(by, row) for row in await store.usage(by, start, end, team)]
