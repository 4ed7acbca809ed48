"""The usage history as single entries again, for archives.

Purchases that an hour still keeps by id come out as they went in, though dated by their hour. The
rest of the hour's sums, its hits too, comes out as one entry for each group, under an id that is
always the same one. Either way the sums are what they were.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add, sub
from typing import Any

from gateway.model import Entry
from gateway.rules.windows import HOUR_SECONDS
from gateway.stores.redis.usage import (
    FIELDS,
    SUMS,
    Group,
    Numbers,
    encode_group,
    group_of,
    groups,
    hour_of,
)


def entries_of(hour: int, sums: Sequence[bytes], purchases: Sequence[bytes]) -> Iterator[Entry]:
    """All usage of an hour, from its sums and purchases: fields and values in turn."""
    rest = dict(groups(sums))
    for id, text in _pairs(purchases):
        numbers, group = _read(text)
        rest[group] = list(map(sub, rest.get(group, _nothing()), numbers))
        yield _entry(id.decode(), hour, group, numbers)
    yield from _summed(hour, rest)


def merged(entries: Iterable[Entry]) -> list[Entry]:
    """The same usage with one entry for each hour and group."""
    hours: dict[int, dict[Group, Numbers]] = {}
    for entry in entries:
        group = tuple(getattr(entry, field) for field in FIELDS)
        sums = hours.setdefault(hour_of(entry.at), {})
        numbers = [getattr(entry, field) for field in SUMS]
        sums[group] = list(map(add, sums.get(group, _nothing()), numbers))
    return [entry for hour, sums in hours.items() for entry in _summed(hour, sums)]


def _summed(hour: int, sums: Mapping[Group, Numbers]) -> Iterator[Entry]:
    for group, numbers in sums.items():
        if any(numbers):
            digest = hashlib.sha256(encode_group.encode(group)).hexdigest()[:16]
            yield _entry(f"sum-{hour}-{digest}", hour, group, numbers)


def _entry(id: str, hour: int, group: Group, numbers: Sequence[int]) -> Entry:
    fields: dict[str, Any] = {
        **dict(zip(FIELDS, group, strict=True)),
        **dict(zip(SUMS, numbers, strict=True)),
    }
    return Entry(id=id, at=float(hour * HOUR_SECONDS), **fields)


def _read(text: bytes) -> tuple[Numbers, Group]:
    """What `swap.lua` keeps of an entry: numbers, then the group."""
    end = text.index(b"[")
    return [int(number) for number in text[:end].split()], group_of(text[end:])


def _pairs(values: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(*[iter(values)] * 2, strict=True)


def _nothing() -> Numbers:
    return [0] * len(SUMS)
