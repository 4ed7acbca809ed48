"""The usage history: sums by UTC hour and group, and packs of them, so that it stays small.

An entry belongs to the hour of its `at`. Its numbers are kept beside the sums for as long as the
entry may be written again, to be subtracted then. Purchases may be written again for three days
(an expired hold may get its outcome for one), free answers for an hour (only after a lost reply).

A write adds to the sums of an hour, number by number. To read months of those would take seconds,
and each number takes a hundred bytes. So sums move, every few seconds and a few teams at a time,
into three packs, which hold hundreds of sums in one value, by team:

    of their hour, by every field that reports group by;
    of their day, by key, and under `TOTALS` the totals of each hour;
    of their week, by key.

An hour's usage is always its pack plus its sums, before and after a move. So a late entry, or one
that is subtracted, is added to sums that were empty, and moves later. A day or a week is its pack
plus the sums of all its hours.

Any gateway may move any sums at any time. The move is one script, which does nothing where a pack
has changed since it was read.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from gateway.core.model import FREE_OUTCOMES, Entry
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS, day_of
from gateway.core.tasks import in_turns
from gateway.stores.redis import names
from gateway.stores.redis.link import MICROSECONDS, Link
from gateway.stores.redis.scripts import Argument, tuples
from gateway.stores.sums import (
    DAY_HOURS,
    SUMS,
    Group,
    Numbers,
    Sums,
    encode_group,
    group_of,
    hour_of,
    numbers_of,
)

KEEP_SECONDS = (3 * DAY_SECONDS, HOUR_SECONDS)
"""How long purchases and free answers can be written again: after their hour, and after they were
written."""

_LETTERS = "rbcumsof"
"""One letter for each of `SUMS`, as in `swap.lua`."""

_PURCHASE, _FREE = 1, 2

_LARGEST = 2**63
"""Redis' numbers are below this."""

_decode_group = msgspec.json.Decoder(tuple[str, ...])


def hours_of(entries: Iterable[Entry]) -> list[int]:
    """Return the hours of these entries, each once."""
    return list(dict.fromkeys(hour_of(entry.at) for entry in entries))


def hour_keys(hours: Iterable[int]) -> list[str]:
    """Return the keys of `swap.lua` for entries of these hours."""
    return [key for hour in hours for key in names.unpacked(hour)]


def entry_arguments(entries: Sequence[Entry], hours: Iterable[int]) -> list[Argument]:
    """Return the arguments of `swap.lua` for these entries.

    Raises OverflowError for numbers of more than 64 bits.
    """
    places = {hour: place for place, hour in enumerate(hours, 1)}  # Lua counts from 1
    arguments: list[Argument] = []
    for entry in entries:
        kind = _FREE if entry.outcome in FREE_OUTCOMES else _PURCHASE
        if not all(-_LARGEST <= number < _LARGEST for number in numbers_of(entry)):
            raise OverflowError("a number has more than 64 bits")
        arguments += (places[hour_of(entry.at)], kind, entry.id, *_texts(entry))
    return arguments


def kept_text(entry: Entry) -> bytes:
    """Return an entry as `swap.lua` keeps it: its numbers and its group."""
    numbers, group = _texts(entry)
    return numbers.encode() + group


def _texts(entry: Entry) -> tuple[str, bytes]:
    return " ".join(map(str, numbers_of(entry))), encode_group(group_of(entry))


async def now_of(link: Link) -> float:
    """Return the store's time in seconds."""
    (now,) = await link.call("load", (names.ACCOUNTS, names.OPERATIONS), 0)
    return float(now) / MICROSECONDS


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


@lru_cache(8192)
def decode_group(text: bytes) -> Group:
    """Decode a group from its text in the store."""
    return _decode_group.decode(text)


# -- packs ----------------------------------------------------------------------------------------

SCHEMA = 2
"""The first schema with packs: an older gateway would not read them."""

WEEK_DAYS = 7
WEEK_HOURS = WEEK_DAYS * DAY_HOURS

VERSION = b"version"
TOTALS = b"all"
"""Fields in a pack other than those of teams, which begin with "t"."""

TEAMS_AT_ONCE = 200
"""Teams that are moved in one step, to bound how long the server and the event loop are busy."""

FULL_FIELDS = 1_000
"""With so many sums, an hour is packed before it has ended."""

Rows = list[tuple[Group, Numbers]]
_decode = msgspec.json.Decoder(list[tuple[tuple[str, ...], tuple[int, ...]]])


def team_field(team: str) -> bytes:
    """Return a team's field in a pack."""
    return b"t" + team.encode()


def decode_rows(text: bytes) -> Rows:
    """Decode one field of a pack: groups with their numbers."""
    return [*_decode.decode(text)]


def teams_in(pack: Iterable[bytes]) -> Iterable[tuple[str, Rows]]:
    """Yield all teams of a pack, from fields and values in turn."""
    for field, text in tuples(pack, 2):
        if field.startswith(b"t"):
            yield field[1:].decode(), decode_rows(text)


def packs_of(hour: int) -> tuple[str, str, str]:
    """Return the packs that an hour's sums move into: its own, its day's and its week's."""
    return (
        names.hour_pack(hour),
        names.day_pack(hour // DAY_HOURS),
        names.week_pack(hour // WEEK_HOURS),
    )


def pack_keys(hours: Iterable[int]) -> list[str]:
    """Return all packs that the sums of these hours may have moved into."""
    return list(dict.fromkeys(key for hour in hours for key in packs_of(hour)))


async def tidy(link: Link, now: float, before: float | None) -> bool:
    """Do one step; False where nothing was left to do. See `UsageStore.tidy`."""
    if before is not None and await _forget_week(link, day_of(before) // WEEK_DAYS):
        return True
    return await _pack_hour(link, hour_of(now))


# -- packing --------------------------------------------------------------------------------------


async def _pack_hour(link: Link, now_hour: int) -> bool:
    """Move some sums of one hour into packs; False where there was nothing to move."""
    hour = await _hour_to_move(link, now_hour)
    if hour is None:
        return False
    by_hour, by_day, by_week = packs = [defaultdict[bytes, Sums](Sums) for _ in packs_of(hour)]
    moved: list[Argument] = []
    found = await link.read(names.usage(hour), "HGETALL")
    sums = await asyncio.to_thread(groups, found)  # after an import an hour may have very many
    async for group, numbers in in_turns(sums):
        field = team_field(group[0])
        if field not in by_hour and len(by_hour) == TEAMS_AT_ONCE:
            continue
        by_hour[field].add(group[1:], numbers)
        for pack in (by_day, by_week):
            pack[field].add(group[1:2], numbers)
        by_day[TOTALS].add((str(hour),), numbers)
        for letter, number in zip(_LETTERS, numbers, strict=True):
            if number:
                moved += (letter.encode() + encode_group(group), -number)
    await _move(link, hour, packs, moved)
    return True


async def _hour_to_move(link: Link, now_hour: int) -> int | None:
    found = await link.read(names.HOURS, "ZRANGEBYSCORE", "-inf", now_hour, "LIMIT", 0, 1)
    hours = [int(hour) for hour in found]
    if hours == [now_hour]:
        size = await link.read(names.usage(now_hour), "HLEN")
        return now_hour if size >= FULL_FIELDS else None
    return hours[0] if hours else None


async def _move(
    link: Link, hour: int, packs: Sequence[Mapping[bytes, Sums]], moved: Sequence[Argument]
) -> None:
    """Add sums to the packs of an hour, and take the moved ones away from the hour's sums."""
    keys = packs_of(hour)
    arguments: list[Argument] = [SCHEMA, hour]
    for key, pack in zip(keys, packs, strict=True):
        version, *texts = await link.read(key, "HMGET", VERSION, *pack)
        arguments += (version or b"", len(pack))
        async for (field, sums), text in in_turns(zip(pack.items(), texts, strict=True)):
            for group, numbers in [] if text is None else decode_rows(text):
                sums.add(group, numbers)
            arguments += (field, msgspec.json.encode(sums.nonzero()))
    lists = (names.HOURS, names.PACKED, names.usage(hour))
    await link.call("pack", (*lists, *keys), *arguments, *moved)


# -- forgetting -----------------------------------------------------------------------------------


async def _forget_week(link: Link, first_week: int) -> bool:
    """Delete the oldest week, if it is before that week; False where it is not."""
    before = f"({first_week * WEEK_HOURS}"
    found: Sequence[int] = [
        int(hour)
        for key in (names.HOURS, names.PACKED)
        for hour in await link.read(key, "ZRANGEBYSCORE", "-inf", before, "LIMIT", 0, 1)
    ]
    if not found:
        return False
    first = min(found) // WEEK_HOURS * WEEK_HOURS
    hours = range(first, first + WEEK_HOURS)
    lists = (names.HOURS, names.PACKED, names.UNKNOWN, names.UNKNOWN_AT)
    keys = [*lists, *pack_keys(hours), *hour_keys(hours)]
    end = (first + WEEK_HOURS) * HOUR_SECONDS
    await link.call("forget_usage", keys, hours[0], hours[-1], end)
    return True
