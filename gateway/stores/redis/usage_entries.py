"""The usage history as it is written: summed by UTC hour and group, so that it is quick and small.

An entry belongs to the hour of its `at`. What it added is kept beside the sums for as long as it
may be written again, to be taken back then: purchases for three days (a swept hold may get its
outcome for one), what is free for an hour (that is only repeated after a lost reply).

What was summed up is soon put into packs, of which reports are made: see `usage_packs`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from gateway.core.model import FREE_OUTCOMES, Entry
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link
from gateway.stores.redis.scripts import Argument
from gateway.stores.sums import SUMS, Group, Numbers, encode_group, group_of, hour_of, numbers_of

_LETTERS = "rbcumsof"
"""Of the sums, as `swap.lua` has them."""

_ALWAYS_WRITTEN = 6
"""Numbers that are written even where they are 0: older gateways know no more than these."""

_PURCHASE, _HIT = 1, 2

MOST = 2**63
"""Redis' numbers are below this."""

_decode_group = msgspec.json.Decoder(tuple[str, ...])


class Written:
    """Entries as `swap.lua` takes them. Raises OverflowError for numbers of more than 64 bits."""

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
            kind = _HIT if entry.outcome in FREE_OUTCOMES else _PURCHASE
            numbers = " ".join(map(str, _shortened(numbers_of(entry))))
            group = encode_group(group_of(entry))
            self.arguments += (places[hour_of(entry.at)], kind, entry.id, numbers, group)


def _shortened(numbers: Numbers) -> Numbers:
    if not all(-MOST <= number < MOST for number in numbers):
        raise OverflowError("a number has more than 64 bits")
    end = len(numbers)
    while end > _ALWAYS_WRITTEN and not numbers[end - 1]:
        end -= 1
    return numbers[:end]


async def written(link: Link, purchases: Mapping[str, float]) -> set[str]:
    """Which of these purchases, by id and the time of their reservation, are kept by id."""
    if not purchases:
        return set()
    keys = (names.META, *(names.purchases(hour_of(at)) for at in purchases.values()))
    found = await link.call(scripts.WRITTEN, keys, *purchases)
    return {id for id, there in zip(purchases, found, strict=True) if there}


def kept_entry(text: bytes) -> tuple[Group, Numbers]:
    """What `swap.lua` keeps of an entry: numbers, then the group."""
    end = text.index(b"[")
    numbers = [int(number) for number in text[:end].split()]
    return decode_group(text[end:]), [*numbers, *[0] * (len(SUMS) - len(numbers))]


def groups(fields: Iterable[bytes]) -> Iterator[tuple[Group, Numbers]]:
    """The groups of an hour's sums, from fields and numbers in turn."""
    found: dict[bytes, list[int]] = {}
    for field, number in zip(*[iter(fields)] * 2, strict=True):
        numbers = found.get(field[1:])
        if numbers is None:
            numbers = found[field[1:]] = [0] * len(SUMS)
        numbers[_LETTERS.index(chr(field[0]))] = int(number)
    return ((decode_group(group), numbers) for group, numbers in found.items())


def fields_of(group: Group, numbers: Numbers) -> Iterator[tuple[bytes, int]]:
    """The fields of an hour's sums that hold these numbers."""
    text = encode_group(group)
    for letter, number in zip(_LETTERS, numbers, strict=True):
        if number:
            yield letter.encode() + text, number


@lru_cache(8192)
def decode_group(text: bytes) -> Group:
    """A group from its text in the store."""
    return _decode_group.decode(text)
