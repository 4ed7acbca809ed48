"""Teams and keys. Every write takes the next generation, by which gateways ask what is new; only
a key's use does not, for it changes nothing for anybody.

What may become of what is decided in `gateway.tenants.operations`, on the directory as it stood.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.core.model import Key
from gateway.stores.codec import decode_key, decode_team, encode_key, encode_team
from gateway.stores.faults import UnknownTeam
from gateway.stores.redis import names, scripts
from gateway.stores.redis.audit import encode_entry
from gateway.stores.redis.link import MICROSECONDS, Link
from gateway.stores.redis.scripts import Argument
from gateway.tenants.store import DirectoryChanges, DirectoryWrite


async def changes(link: Link, since: int) -> DirectoryChanges:
    """What was written after generation `since`, in the order of writing."""
    keys = (
        names.META,
        names.CHANGED,
        names.TEAMS,
        names.KEYS,
        names.STATES,
        names.ENDS,
    )
    now, generation, whole, teams, parts = await link.call(scripts.CHANGES, keys, since)
    return DirectoryChanges(
        generation,
        [decode_team(team) for team in teams],
        [key_of(*part) for part in zip(*[iter(parts)] * 3, strict=True)],
        whole=bool(whole),
        now=now / MICROSECONDS,
    )


async def commit(link: Link, generation: int, write: DirectoryWrite) -> bool:
    """Write all of it, unless the directory's generation has moved on. Raises UnknownTeam."""
    arguments: list[Argument] = [generation, len(write.teams), len(write.keys)]
    for team in write.teams:
        arguments += (team.name, encode_team(team))
    for key in write.keys:
        ends = "" if key.grace_ends is None else key.grace_ends
        arguments += (key.id, key.team, encode_key(key), key.state, ends)
    for entry in write.audit:
        arguments += (entry.at, encode_entry(entry))
    keys = (
        names.META,
        names.CHANGED,
        names.TEAMS,
        names.KEYS,
        names.STATES,
        names.ENDS,
        names.AUDIT,
    )
    script = scripts.COMMIT_LESS if _takes_away(write) else scripts.COMMIT
    outcome, *lacking = await link.call(script, keys, *arguments)
    if outcome == b"no team":
        raise UnknownTeam(lacking[0].decode())
    return bool(outcome == b"ok")


def _takes_away(write: DirectoryWrite) -> bool:
    """Whether nobody may do more by it: that has to be possible though memory is used up."""
    teams_end = all(team.deleted for team in write.teams)
    keys_end = all(key.state != "active" for key in write.keys)
    return bool(write.teams or write.keys) and teams_end and keys_end


async def record_use(link: Link, uses: Mapping[str, float]) -> None:
    """Keep when keys were used, unless a later use is known. No generation is taken."""
    arguments: list[Argument] = []
    for id, at in uses.items():
        arguments += (at, id)
    keys = (names.META, names.USES)
    await link.call(scripts.RECORD_USE, keys, *arguments)


async def last_uses(link: Link) -> dict[str, float]:
    """When each key was last used."""
    found = await link.call(scripts.READ, (names.META, names.USES), "ZRANGE", 0, -1, "WITHSCORES")
    return {id.decode(): float(at) for id, at in zip(*[iter(found)] * 2, strict=True)}


async def check_value(link: Link, name: str, value: bytes) -> bool:
    """Whether `value` is what was first given under `name`; the first one is kept."""
    kept = await link.call(scripts.CHECK_VALUE, (names.META,), name, value)
    return bool(kept == value)


def key_of(text: bytes, state: bytes, ends: bytes | None) -> Key:
    """A key of its three parts in the store."""
    # What changes is kept apart from the key: a script cannot write JSON without harm to numbers.
    return replace(
        decode_key(text), state=state.decode(), grace_ends=None if ends is None else float(ends)
    )
