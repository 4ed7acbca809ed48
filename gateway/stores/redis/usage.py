"""The usage history: summed by UTC hour as it is written, so that reports are quick and small.

An entry belongs to the hour of its `at`. What it added is kept beside the sums for as long as it
may be written again, to be taken back then: purchases for three days (a swept hold may get its
outcome for one), hits for an hour (they are only repeated after a lost reply).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from math import ceil, floor
from operator import add

import msgspec

from gateway.model import Entry, UsageRow
from gateway.rules.windows import DAY_SECONDS, HOUR_SECONDS
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link
from gateway.stores.redis.scripts import Argument

HOURS_AT_ONCE = 8
"""Hours read in one call: bounds how long the server and the event loop are busy with it."""

FIELDS = ("team", "key", "model", "size", "quality", "outcome")
_TIMES = ("hour", "day")
SUMS = ("requests", "images_bought", "images_cached", "images_unknown", "cost", "saved")
_LETTERS = "rbcums"
"""Of the sums, as `swap.lua` has them."""

_PURCHASE, _HIT = 1, 2

encode_group = msgspec.json.Encoder()
_decode_group = msgspec.json.Decoder(tuple[str, ...])

Group = tuple[str, ...]
Numbers = list[int]


class Written:
    """Entries as `swap.lua` takes them."""

    KEEP_SECONDS = (3 * DAY_SECONDS, HOUR_SECONDS)
    """How long purchases and hits can be written again: after their hour, and after they were."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        hours = list(dict.fromkeys(hour_of(entry.at) for entry in entries))
        places = {hour: place for place, hour in enumerate(hours, 1)}
        self.keys: list[str] = []
        for hour in hours:
            self.keys += (names.usage(hour), names.purchases(hour), names.hits(hour))
        self.arguments: list[Argument] = [len(hours), *hours]
        for entry in entries:
            kind = _HIT if entry.outcome == "cached" else _PURCHASE
            numbers = " ".join(str(getattr(entry, field)) for field in SUMS)
            group = encode_group.encode([getattr(entry, field) for field in FIELDS])
            self.arguments += (places[hour_of(entry.at)], kind, entry.id, numbers, group)


async def written(link: Link, purchases: Mapping[str, float]) -> set[str]:
    """Which of these purchases, by id and the time of their reservation, are kept by id."""
    if not purchases:
        return set()
    keys = (names.META, *(names.purchases(hour_of(at)) for at in purchases.values()))
    found = await link.call(scripts.WRITTEN, keys, *purchases)
    return {id for id, there in zip(purchases, found, strict=True) if there}


def check_grouping(by: Sequence[str]) -> None:
    """Raise ValueError where usage cannot be grouped by one of these."""
    for field in by:
        if field not in (*_TIMES, *FIELDS):
            raise ValueError(f"Usage cannot be grouped by {field!r}.")


async def usage(
    link: Link, by: Sequence[str], start: float | None, end: float | None, team: str | None
) -> list[UsageRow]:
    """Usage of the hours that begin from `start` to before `end`, summed by the fields of `by`.

    Each call is bounded by itself: the history of a year takes many.
    """
    every = (*_TIMES, *FIELDS)
    places = [every.index(field) for field in by]
    sums: defaultdict[Group, Numbers] = defaultdict(lambda: [0] * len(SUMS))
    hours = iter(await _hours(link, start, end))
    while some := list(islice(hours, HOURS_AT_ONCE)):
        for times, group, numbers in await _read(link, some):
            if team is None or group[0] == team:
                values = (*times, *group)
                row = tuple(values[place] for place in places)
                sums[row] = list(map(add, sums[row], numbers))
    return [
        UsageRow(group=group, **dict(zip(SUMS, numbers, strict=True)))
        for group, numbers in sorted(sums.items())
    ]


async def _hours(link: Link, start: float | None, end: float | None) -> list[int]:
    first = "-inf" if start is None else ceil(start / HOUR_SECONDS)
    last = "+inf" if end is None else f"({ceil(end / HOUR_SECONDS)}"
    keys = (names.META, names.HOURS)
    found = await link.call(scripts.READ, keys, "ZRANGEBYSCORE", first, last)
    return [int(hour) for hour in found]


async def _read(link: Link, hours: Sequence[int]) -> Iterator[tuple[Group, Group, Numbers]]:
    """What these hours hold: the hour and day, the group, its sums."""
    keys = (names.META, *map(names.usage, hours))
    found = await link.call(scripts.SUMS, keys)
    return (
        (_times(hour), group, numbers)
        for hour, fields in zip(hours, found, strict=True)
        for group, numbers in groups(fields)
    )


def groups(fields: Iterable[bytes]) -> Iterator[tuple[Group, Numbers]]:
    """The groups of an hour, from fields and numbers in turn."""
    found: defaultdict[Group, Numbers] = defaultdict(lambda: [0] * len(SUMS))
    for field, number in zip(*[iter(fields)] * 2, strict=True):
        found[group_of(field[1:])][_LETTERS.index(chr(field[0]))] = int(number)
    return iter(found.items())


@lru_cache(4096)
def group_of(text: bytes) -> Group:
    """A group from its text in the store."""
    return _decode_group.decode(text)


def hour_of(at: float) -> int:
    """The hour since 1970 that a time belongs to."""
    return floor(at) // HOUR_SECONDS


def _times(hour: int) -> Group:
    """The hour and its day, as reports show them."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return at.strftime("%Y-%m-%dT%H:00:00Z"), at.date().isoformat()
