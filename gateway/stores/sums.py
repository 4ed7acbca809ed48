"""Sums of usage: the fields that stores group by, and the numbers that they add.

An entry belongs to the UTC hour of its `at`. A store keeps the sums of each hour by all of
`FIELDS`. It keeps single entries only for as long as they may be written again.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, floor
from operator import add, neg
from typing import Any

import msgspec
from msgspec import Struct

from gateway.core.model import Entry
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS

DAY_HOURS = DAY_SECONDS // HOUR_SECONDS

LAST_HOUR = DAY_HOURS * 10_000_000
"""Later than any hour with usage."""

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
"""The values of the fields that a report groups by, in their order."""

Numbers = Sequence[int]
"""One number for each of `SUMS`."""


class Query(Struct, frozen=True, kw_only=True):
    """A usage report: the fields to group by, the hours from `first` to before `end`, the teams.

    `teams` None means all teams.
    """

    by: tuple[str, ...]
    first: int
    end: int
    teams: tuple[str, ...] | None


def query_of(
    by: Sequence[str], start: float | None, end: float | None, team: str | Sequence[str] | None
) -> Query:
    """Return the query that the arguments of `UsageStore.report` describe.

    Raises ValueError where usage cannot be grouped by one of the fields.
    """
    for field in by:
        if field not in (*TIMES, *FIELDS):
            raise ValueError(f"Usage cannot be grouped by {field!r}.")
    first, last = bounds_of(start, end)
    teams = (team,) if isinstance(team, str) else team
    once = None if teams is None else tuple(dict.fromkeys(teams))
    return Query(by=tuple(by), first=first, end=last, teams=once)


def bounds_of(start: float | None, end: float | None) -> tuple[int, int]:
    """Return the first hour that begins at or after `start`, and the same for `end`."""
    first = 0 if start is None else max(0, ceil(start / HOUR_SECONDS))
    return first, LAST_HOUR if end is None else min(LAST_HOUR, ceil(end / HOUR_SECONDS))


def hour_of(at: float) -> int:
    """Return the hour since 1970 that a time belongs to."""
    return floor(at) // HOUR_SECONDS


def group_of(entry: Entry) -> Group:
    """Return the group of an entry within its hour."""
    return tuple(getattr(entry, field) for field in FIELDS)


def numbers_of(entry: Entry) -> Numbers:
    """Return the numbers that an entry adds."""
    return tuple(getattr(entry, field) for field in SUMS)


def encode_group(group: Sequence[str]) -> bytes:
    """Encode a group as JSON, always the same for the same group."""
    return msgspec.json.encode(group)


class Sums(dict[Group, Numbers]):
    """Numbers added up by group."""

    def add(self, group: Group, numbers: Numbers) -> None:
        """Add numbers to those of a group."""
        former = self.get(group)
        self[group] = numbers if former is None else tuple(map(add, former, numbers))

    def subtract(self, group: Group, numbers: Numbers) -> None:
        """Subtract numbers from those of a group."""
        self.add(group, tuple(map(neg, numbers)))

    def nonzero(self) -> list[tuple[Group, Numbers]]:
        """Return the groups with any usage."""
        return [(group, numbers) for group, numbers in self.items() if any(numbers)]


def picker(by: Sequence[str], fields: Sequence[str]) -> Callable[[Sequence[str]], Group]:
    """Return a function that picks the values of `by` from those of `fields`."""
    places = [fields.index(field) for field in by]
    return lambda values: tuple([values[place] for place in places])


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """Return the same usage with one entry for each hour and group."""
    hours: dict[int, Sums] = {}
    for entry in entries:
        hours.setdefault(hour_of(entry.at), Sums()).add(group_of(entry), numbers_of(entry))
    return [entry for hour, sums in hours.items() for entry in summed(hour, sums)]


def summed(hour: int, sums: Sums) -> Iterator[Entry]:
    """Yield an hour's sums as one entry for each group, under an id made of both."""
    for group, numbers in sums.nonzero():
        digest = hashlib.sha256(encode_group(group)).hexdigest()[:16]
        yield entry_of(f"sum-{hour}-{digest}", hour, group, numbers)


def entry_of(id: str, hour: int, group: Group, numbers: Numbers) -> Entry:
    """Return an entry dated by its hour."""
    fields: dict[str, Any] = dict(zip((*FIELDS, *SUMS), (*group, *numbers), strict=True))
    return Entry(id=id, at=float(hour * HOUR_SECONDS), **fields)
