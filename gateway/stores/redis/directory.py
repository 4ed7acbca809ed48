"""Teams and keys. Every write takes the next generation, and gateways ask for what came after one.

A key's use takes none: it changes nothing that a gateway has to reload. What a change does is
decided in `gateway.tenants.operations`, from the directory that the caller has read.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from gateway.core.model import Key
from gateway.stores.codec import decode_key, decode_team, encode_json
from gateway.stores.errors import UnknownTeam
from gateway.stores.redis import names, scripts
from gateway.stores.redis.audit import encode_entry
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument, tuples
from gateway.tenants.store import DirectoryChanges, DirectoryWrite

_KEYS = (names.META, names.CHANGED, names.TEAMS, names.KEYS, names.STATES, names.ENDS)
_USES = (names.META, names.USES)


class RedisDirectory(RedisPart):
    """The DirectoryStore in hashes of teams and keys, and a sorted set of their generations."""

    @operation("changes")
    async def changes(self, since: int) -> DirectoryChanges:
        reply = await self.link.call(scripts.CHANGES, _KEYS, since)
        now, generation, whole, teams, parts = reply
        return DirectoryChanges(
            generation,
            [decode_team(team) for team in teams],
            [key_of(*part) for part in tuples(parts, 3)],
            whole=bool(whole),
            now=now / MICROSECONDS,
        )

    @operation("commit")
    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        arguments: list[Argument] = [generation, len(write.teams), len(write.keys)]
        for team in write.teams:
            arguments += (team.name, encode_json(team))
        for key in write.keys:
            ends = "" if key.grace_ends is None else key.grace_ends
            arguments += (key.id, key.team, encode_json(key), key.state, ends)
        for entry in write.audit:
            arguments += (entry.at, encode_entry(entry))
        script = scripts.COMMIT_LESS if _takes_away(write) else scripts.COMMIT
        outcome, *lacking = await self.link.call(script, (*_KEYS, names.AUDIT), *arguments)
        if outcome == b"no team":
            raise UnknownTeam(lacking[0].decode())
        return bool(outcome == b"ok")

    @operation("record_use")
    async def record_use(self, uses: Mapping[str, float]) -> None:
        arguments: list[Argument] = []
        for id, at in uses.items():
            arguments += (at, id)
        await self.link.call(scripts.RECORD_USE, _USES, *arguments)

    @operation("last_uses")
    async def last_uses(self) -> dict[str, float]:
        found = await self.link.read(names.USES, "ZRANGE", 0, -1, "WITHSCORES")
        return {id.decode(): float(at) for id, at in tuples(found, 2)}


def _takes_away(write: DirectoryWrite) -> bool:
    """Whether it only revokes or deletes: that must be possible although memory is full."""
    teams_end = all(team.deleted for team in write.teams)
    keys_end = all(key.state != "active" for key in write.keys)
    return bool(write.teams or write.keys) and teams_end and keys_end


async def check_value(link: Link, name: str, value: bytes) -> bool:
    """Keep the first value under `name`; return whether `value` equals it."""
    kept = await link.call(scripts.CHECK_VALUE, (names.META,), name, value)
    return bool(kept == value)


def key_of(text: bytes, state: bytes, ends: bytes | None) -> Key:
    """Return a key from its three parts in the store."""
    # The state is kept apart from the key: a script that wrote JSON would damage large numbers.
    return replace(
        decode_key(text), state=state.decode(), grace_ends=None if ends is None else float(ends)
    )
