"""Packs: the usage history as reports read it, hundreds of sums in one value.

Writing adds to the sums of an hour, number by number. Reading months of that would take seconds,
and it takes a hundred bytes for each number. So what was summed up is moved, every few seconds
and a few teams at a time, into three packs that hold it under the team's name:

    of its hour, by all that reports go by;
    of its day, by key; and under `TOTALS` each hour's, of all teams together;
    of its week, by key.

What an hour has is always its pack and its sums together, whatever was moved when; so a late
entry, or one taken back, is added to sums that were empty, and moved in its turn. A day or a week
is its pack and the sums of all of its hours.

Any gateway may move anything at any time. The move is one script, and does nothing where a pack is
no longer what it was made from.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any

import msgspec

from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link
from gateway.stores.redis.scripts import Argument
from gateway.stores.redis.usage_entries import fields_of, groups
from gateway.stores.sums import DAY_HOURS, NOTHING, Group, Numbers, Sums

SCHEMA = 2
"""The first that has packs: an older gateway would not see what is in them."""

WEEK_DAYS = 7
WEEK_HOURS = WEEK_DAYS * DAY_HOURS

VERSION = b"version"
TOTALS = b"all"
"""Names in a pack besides those of teams, which begin with "t"."""

TEAMS_AT_ONCE = 200
"""Teams that are moved in one go: bounds how long the server and the event loop are busy."""

FULL_FIELDS = 1_000
"""Sums in the running hour from which on it is not left for its end."""

Rows = list[tuple[Group, Numbers]]
_encode = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(list[tuple[tuple[str, ...], tuple[int, ...]]])


def team_field(team: str) -> bytes:
    """A team's name in a pack."""
    return b"t" + team.encode()


def decode_rows(text: bytes) -> Rows:
    """The groups that a pack has under one name, with their numbers."""
    return _decode.decode(text)  # type: ignore[return-value]


def teams_in(pack: Iterable[bytes]) -> Iterable[tuple[str, Rows]]:
    """All teams of a pack, from names and values in turn."""
    for name, text in zip(*[iter(pack)] * 2, strict=True):
        if name.startswith(b"t"):
            yield name[1:].decode(), decode_rows(text)


async def pack(link: Link, now_hour: int) -> bool:
    """Move some sums of one hour into packs; False where there was nothing to move."""
    hour = await _to_move(link, now_hour)
    if hour is None:
        return False
    by_team: dict[str, Rows] = {}
    for group, numbers in groups(await _read(link, names.usage(hour), "HGETALL")):
        if group[0] in by_team or len(by_team) < TEAMS_AT_ONCE:
            by_team.setdefault(group[0], []).append((group, numbers))
    await _move(link, hour, by_team)
    return True


async def _to_move(link: Link, now_hour: int) -> int | None:
    found = await _read(link, names.HOURS, "ZRANGEBYSCORE", "-inf", now_hour, "LIMIT", 0, 1)
    hours = [int(hour) for hour in found]
    if hours == [now_hour]:
        size = await _read(link, names.usage(now_hour), "HLEN")
        return now_hour if size >= FULL_FIELDS else None
    return hours[0] if hours else None


async def _move(link: Link, hour: int, by_team: Mapping[str, Rows]) -> None:
    levels = (_by_all(by_team), _by_key(by_team, hour), _by_key(by_team))
    packs = packs_of(hour)
    arguments: list[Argument] = [SCHEMA, hour]
    for key, more in zip(packs, levels, strict=True):
        version, *texts = await _read(link, key, "HMGET", VERSION, *more)
        arguments += (version or b"", len(more))
        for (name, rows), text in zip(more.items(), texts, strict=True):
            arguments += (name, _encode.encode(_together(text, rows)))
    for rows in by_team.values():
        for group, numbers in rows:
            for field, number in fields_of(group, numbers):
                arguments += (field, -number)
    keys = (names.META, names.HOURS, names.PACKED, names.usage(hour), *packs)
    await link.call(scripts.PACK, keys, *arguments)


def packs_of(hour: int) -> tuple[str, str, str]:
    """The packs that an hour's sums go into: its own, its day's and its week's."""
    return (
        names.hour_pack(hour),
        names.day_pack(hour // DAY_HOURS),
        names.week_pack(hour // WEEK_HOURS),
    )


def _by_all(by_team: Mapping[str, Rows]) -> dict[bytes, Rows]:
    return {
        team_field(team): [(group[1:], numbers) for group, numbers in rows]
        for team, rows in by_team.items()
    }


def _by_key(by_team: Mapping[str, Rows], hour: int | None = None) -> dict[bytes, Rows]:
    """By team and key; with an `hour`, what it has in all too."""
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


def _together(text: bytes | None, rows: Rows) -> Rows:
    """What a pack has under a name, and these; groups that come to nothing are gone."""
    sums = {} if text is None else dict(decode_rows(text))
    for group, numbers in rows:
        sums[group] = tuple(map(add, sums.get(group, NOTHING), numbers))
    return [(group, numbers) for group, numbers in sums.items() if any(numbers)]


async def _read(link: Link, key: str, command: str, *arguments: Argument) -> Any:
    return await link.call(scripts.READ, (names.META, key), command, *arguments)


def pack_keys(hours: Sequence[int]) -> list[str]:
    """All packs that these hours may have gone into."""
    return list(dict.fromkeys(key for hour in hours for key in packs_of(hour)))
