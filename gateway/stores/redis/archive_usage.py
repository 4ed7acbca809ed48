"""The usage history as single entries again, for archives.

Purchases that an hour still keeps by id come out as they went in, though dated by their hour. The
rest of the hour's sums, its hits too, comes out as one entry for each group, under an id that is
always the same one. Either way the sums are what they were.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import add, sub

from gateway.core.model import Entry
from gateway.stores.redis.usage_entries import groups, kept_entry
from gateway.stores.redis.usage_packs import teams_in
from gateway.stores.sums import NOTHING, Group, Numbers, entry_of, summed


def entries_of(
    hour: int, sums: Sequence[bytes], purchases: Sequence[bytes], pack: Sequence[bytes]
) -> Iterator[Entry]:
    """All usage of an hour, from sums, purchases and pack: fields and values in turn."""
    rest: dict[Group, Numbers] = {}
    for group, numbers in chain(groups(sums), _packed(pack)):
        rest[group] = list(map(add, rest.get(group, NOTHING), numbers))
    for id, text in _pairs(purchases):
        group, numbers = kept_entry(text)
        rest[group] = list(map(sub, rest.get(group, NOTHING), numbers))
        yield entry_of(id.decode(), hour, group, numbers)
    yield from summed(hour, rest)


def _packed(pack: Sequence[bytes]) -> Iterator[tuple[Group, Numbers]]:
    for team, rows in teams_in(pack):
        for group, numbers in rows:
            yield (team, *group), numbers


def _pairs(values: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(*[iter(values)] * 2, strict=True)
