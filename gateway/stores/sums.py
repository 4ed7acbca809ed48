"""Usage summed up: what stores group it by, and what they add.

An entry belongs to the UTC hour of its `at`. A store keeps the sums of each hour by all of
`FIELDS`; single entries only for as long as they may be written again.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil, floor
from operator import add
from typing import Any

import msgspec

from gateway.core.model import Entry, UsageRow
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS

DAY_HOURS = DAY_SECONDS // HOUR_SECONDS

LAST_HOUR = DAY_HOURS * 10_000_000
"""After every hour that anything is recorded in."""

FIELDS = ("team", "key", "model", "size", "quality", "outcome")
TIMES = ("hour", "day")

SUMS = (
    "requests",
    "images_bought",
    "images_cached",
    "images_unknown",
    "cost",
    "saved",
    "images_coalesced",
    "requests_refused",
)

Group = tuple[Any, ...]
"""Values of what is grouped by, in its order."""

Numbers = Sequence[int]
"""One for each of `SUMS`."""

NOTHING: Numbers = (0,) * len(SUMS)

_encode_group = msgspec.json.Encoder()


def check_grouping(by: Sequence[str]) -> None:
    """Raise ValueError where usage cannot be grouped by one of these."""
    for field in by:
        if field not in (*TIMES, *FIELDS):
            raise ValueError(f"Usage cannot be grouped by {field!r}.")


def bounds_of(start: float | None, end: float | None) -> tuple[int, int]:
    """The first hour that begins from `start` on, and the first one not before `end`."""
    first = 0 if start is None else max(0, ceil(start / HOUR_SECONDS))
    return first, LAST_HOUR if end is None else min(LAST_HOUR, ceil(end / HOUR_SECONDS))


def teams_of(team: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The teams that are asked for, each once; None for all."""
    if team is None:
        return None
    return (team,) if isinstance(team, str) else tuple(dict.fromkeys(team))


def hour_of(at: float) -> int:
    """The hour since 1970 that a time belongs to."""
    return floor(at) // HOUR_SECONDS


def group_of(entry: Entry) -> Group:
    """What an entry is summed up under in its hour."""
    return tuple(getattr(entry, field) for field in FIELDS)


def numbers_of(entry: Entry) -> Numbers:
    """What an entry adds."""
    return tuple(getattr(entry, field) for field in SUMS)


def encode_group(group: Sequence[str]) -> bytes:
    """A group as JSON text, the same for the same group."""
    return _encode_group.encode(group)


@lru_cache(4096)
def hour_text(hour: int) -> str:
    """An hour as reports show it."""
    return _moment(hour).strftime("%Y-%m-%dT%H:00:00Z")


@lru_cache(1024)
def day_text(day: int) -> str:
    """A day since 1970 as reports show it."""
    return _moment(day * DAY_HOURS).date().isoformat()


def _moment(hour: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)


class Sums:
    """Numbers added up by group."""

    def __init__(self) -> None:
        self._rows: dict[Group, Numbers] = {}

    def add(self, group: Group, numbers: Numbers) -> None:
        """Add numbers to a group's."""
        former = self._rows.get(group)
        self._rows[group] = numbers if former is None else tuple(map(add, former, numbers))

    def rows(self) -> list[UsageRow]:
        """All groups that have anything, in their order."""
        return [
            UsageRow(group=group, **dict(zip(SUMS, numbers, strict=True)))
            for group, numbers in sorted(self._rows.items())
            if any(numbers)
        ]

    def items(self) -> Iterable[tuple[Group, Numbers]]:
        """Groups with their numbers."""
        return self._rows.items()


def picker(by: Sequence[str], fields: Sequence[str]) -> Callable[[Sequence[str]], Group]:
    """What makes the values of `fields` into a group of `by`."""
    places = [fields.index(field) for field in by]
    return lambda values: tuple([values[place] for place in places])


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """The same usage with one entry for each hour and group."""
    hours: dict[int, Sums] = {}
    for entry in entries:
        hours.setdefault(hour_of(entry.at), Sums()).add(group_of(entry), numbers_of(entry))
    return [entry for hour, sums in hours.items() for entry in summed(hour, dict(sums.items()))]


def summed(hour: int, sums: Mapping[Group, Numbers]) -> Iterator[Entry]:
    """An hour's sums as one entry for each group, under an id that is always the same one."""
    for group, numbers in sums.items():
        if any(numbers):
            digest = hashlib.sha256(encode_group(group)).hexdigest()[:16]
            yield entry_of(f"sum-{hour}-{digest}", hour, group, numbers)


def entry_of(id: str, hour: int, group: Group, numbers: Numbers) -> Entry:
    """An entry of which only the hour is known."""
    fields: dict[str, Any] = {
        **dict(zip(FIELDS, group, strict=True)),
        **dict(zip(SUMS, numbers, strict=True)),
    }
    return Entry(id=id, at=float(hour * HOUR_SECONDS), **fields)
