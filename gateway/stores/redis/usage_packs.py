"""Packs: the usage history as reports read it, hundreds of sums in one value.

A write adds to the sums of an hour, number by number. To read months of those would take seconds,
and each number takes a hundred bytes. So sums move, every few seconds and a few teams at a time,
into three packs, which hold them by team:

    of their hour, by every field that reports group by;
    of their day, by key, and under `TOTALS` the totals of each hour;
    of their week, by key.

An hour's usage is always its pack plus its sums, whatever has moved. So a late entry, or one that
is subtracted, is added to sums that were empty, and moves in its turn. A day or a week is its pack
plus the sums of all its hours.

Any gateway may move any sums at any time. The move is one script, which does nothing where a pack
has changed since it was read.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import add

import msgspec

from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link
from gateway.stores.redis.scripts import Argument, tuples
from gateway.stores.redis.usage_entries import fields_of, groups
from gateway.stores.sums import DAY_HOURS, NOTHING, Group, Numbers, Sums

SCHEMA = 2
"""The first schema with packs: an older gateway would not read them."""

WEEK_DAYS = 7
WEEK_HOURS = WEEK_DAYS * DAY_HOURS

VERSION = b"version"
TOTALS = b"all"
"""Fields in a pack besides those of teams, which begin with "t"."""

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


# -- packing --------------------------------------------------------------------------------------


async def pack_hour(link: Link, now_hour: int) -> bool:
    """Move some sums of one hour into packs; False where there was nothing to move."""
    hour = await _hour_to_move(link, now_hour)
    if hour is None:
        return False
    by_team: dict[str, Rows] = {}
    for group, numbers in groups(await link.read(names.usage(hour), "HGETALL")):
        if group[0] in by_team or len(by_team) < TEAMS_AT_ONCE:
            by_team.setdefault(group[0], []).append((group, numbers))
    await _move(link, hour, by_team)
    return True


async def _hour_to_move(link: Link, now_hour: int) -> int | None:
    found = await link.read(names.HOURS, "ZRANGEBYSCORE", "-inf", now_hour, "LIMIT", 0, 1)
    hours = [int(hour) for hour in found]
    if hours == [now_hour]:
        size = await link.read(names.usage(now_hour), "HLEN")
        return now_hour if size >= FULL_FIELDS else None
    return hours[0] if hours else None


async def _move(link: Link, hour: int, by_team: Mapping[str, Rows]) -> None:
    levels = (_by_every_field(by_team), _by_key(by_team, hour), _by_key(by_team))
    packs = packs_of(hour)
    arguments: list[Argument] = [SCHEMA, hour]
    for key, more in zip(packs, levels, strict=True):
        version, *texts = await link.read(key, "HMGET", VERSION, *more)
        arguments += (version or b"", len(more))
        for (field, rows), text in zip(more.items(), texts, strict=True):
            arguments += (field, msgspec.json.encode(_merged(text, rows)))
    for rows in by_team.values():
        for group, numbers in rows:
            for field, number in fields_of(group, numbers):
                arguments += (field, -number)
    keys = (names.META, names.HOURS, names.PACKED, names.usage(hour), *packs)
    await link.call(scripts.PACK, keys, *arguments)


def _by_every_field(by_team: Mapping[str, Rows]) -> dict[bytes, Rows]:
    return {
        team_field(team): [(group[1:], numbers) for group, numbers in rows]
        for team, rows in by_team.items()
    }


def _by_key(by_team: Mapping[str, Rows], hour: int | None = None) -> dict[bytes, Rows]:
    """Sum up by team and key; with an `hour`, add its total over all teams."""
    found: dict[bytes, Rows] = {}
    total = Sums()
    for team, rows in by_team.items():
        sums = Sums()
        for group, numbers in rows:
            sums.add(group[1:2], numbers)
            total.add((str(hour),), numbers)
        found[team_field(team)] = list(sums.items())
    if hour is not None:
        found[TOTALS] = list(total.items())
    return found


def _merged(text: bytes | None, rows: Rows) -> Rows:
    """Add rows to a field of a pack; groups whose numbers are all 0 are left out."""
    sums = {} if text is None else dict(decode_rows(text))
    for group, numbers in rows:
        sums[group] = tuple(map(add, sums.get(group, NOTHING), numbers))
    return [(group, numbers) for group, numbers in sums.items() if any(numbers)]


# -- forgetting -----------------------------------------------------------------------------------


async def forget_week(link: Link, first_week: int) -> bool:
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
    keys = [names.META, names.HOURS, names.PACKED, *pack_keys(hours)]
    keys += [key for hour in hours for key in names.kept(hour)]
    await link.call(scripts.FORGET_USAGE, keys, hours[0], hours[-1])
    return True
