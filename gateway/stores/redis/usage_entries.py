"""The usage history as it is written: summed by UTC hour and group, so that it stays small.

An entry belongs to the hour of its `at`. Its numbers are kept beside the sums for as long as the
entry may be written again, to be subtracted then. Purchases may be written again for three days
(an expired hold may get its outcome for one), free answers for an hour (only after a lost reply).

Sums soon move into packs, which reports read: see `usage_packs`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from gateway.core.model import FREE_OUTCOMES, Entry
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.stores.redis import names
from gateway.stores.redis.scripts import Argument, tuples
from gateway.stores.sums import SUMS, Group, Numbers, encode_group, group_of, hour_of, numbers_of

KEEP_SECONDS = (3 * DAY_SECONDS, HOUR_SECONDS)
"""How long purchases and free answers can be written again: after their hour, and after they were
written."""

_LETTERS = "rbcumsof"
"""One letter for each of `SUMS`, as in `swap.lua`."""

_ALWAYS_WRITTEN = 6
"""Numbers that are written even where they are 0: older gateways know only these."""

_PURCHASE, _FREE = 1, 2

_LARGEST = 2**63
"""Redis' numbers are below this."""

_decode_group = msgspec.json.Decoder(tuple[str, ...])


class EntryArguments:
    """Keys and arguments of `swap.lua` for these entries.

    Raises OverflowError for numbers of more than 64 bits.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        hours = list(dict.fromkeys(hour_of(entry.at) for entry in entries))
        places = {hour: place for place, hour in enumerate(hours, 1)}
        self.keys = [key for hour in hours for key in names.kept(hour)]
        self.arguments: list[Argument] = [len(hours), *hours]
        for entry in entries:
            kind = _FREE if entry.outcome in FREE_OUTCOMES else _PURCHASE
            numbers = " ".join(map(str, _shortened(numbers_of(entry))))
            group = encode_group(group_of(entry))
            self.arguments += (places[hour_of(entry.at)], kind, entry.id, numbers, group)


def _shortened(numbers: Numbers) -> Numbers:
    if not all(-_LARGEST <= number < _LARGEST for number in numbers):
        raise OverflowError("a number has more than 64 bits")
    end = len(numbers)
    while end > _ALWAYS_WRITTEN and not numbers[end - 1]:
        end -= 1
    return numbers[:end]


def kept_entry(text: bytes) -> tuple[Group, Numbers]:
    """Return the group and the numbers of an entry that `swap.lua` has kept."""
    end = text.index(b"[")
    numbers = [int(number) for number in text[:end].split()]
    return decode_group(text[end:]), [*numbers, *[0] * (len(SUMS) - len(numbers))]


def groups(fields: Iterable[bytes]) -> Iterator[tuple[Group, Numbers]]:
    """Yield the groups of an hour's sums, from fields and numbers in turn."""
    found: dict[bytes, list[int]] = {}
    for field, number in tuples(fields, 2):
        numbers = found.get(field[1:])
        if numbers is None:
            numbers = found[field[1:]] = [0] * len(SUMS)
        numbers[_LETTERS.index(chr(field[0]))] = int(number)
    return ((decode_group(group), numbers) for group, numbers in found.items())


def fields_of(group: Group, numbers: Numbers) -> Iterator[tuple[bytes, int]]:
    """Yield the fields of an hour's sums for these numbers, without those that are 0."""
    text = encode_group(group)
    for letter, number in zip(_LETTERS, numbers, strict=True):
        if number:
            yield letter.encode() + text, number


@lru_cache(8192)
def decode_group(text: bytes) -> Group:
    """Decode a group from its text in the store."""
    return _decode_group.decode(text)
