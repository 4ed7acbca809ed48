"""The time span of a report: days or times as text, with a start and an end."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from gateway.core.faults import Fault, InvalidFields
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS


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


def _checked(text: str) -> str:
    parse_time(text)
    return text


Time = Annotated[
    str,
    Meta(
        description="a day (2026-11-01) or a time with its zone (2026-11-01T12:00:00Z; of usage "
        "and errors on the hour), in the years 1970 to 9998",
        extra={"read": _checked},
    ),
]


class Span(Struct, frozen=True, kw_only=True):
    """A span of time in UTC. A `to` that is a day is included, a `to` with a time is not."""

    first: Time | None = field(name="from", default=None)
    last: Time | None = field(name="to", default=None)

    def bounds(self) -> tuple[float | None, float | None]:
        """Return start and end where they are given. Raises InvalidFields."""
        start = None if self.first is None else parse_time(self.first)
        end = None if self.last is None else parse_time(self.last, ends=True)
        check_order(start, end)
        return start, end


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
