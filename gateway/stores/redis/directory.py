"""Teams, keys and the audit log. Every write of teams and keys takes the next generation, and
gateways ask for what came after one.

A key's use takes none: it changes nothing that a gateway has to reload. What a change does is
decided in `gateway.tenants.operations`, from the directory that the caller has read. Its entry in
the audit log is written by the same script.
"""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from gateway.core.model import AuditEntry, Key
from gateway.core.tasks import in_turns
from gateway.stores.codec import decode_key, decode_team, encode_json
from gateway.stores.redis import names
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument, tuples
from gateway.tenants.store import DirectoryChanges, DirectoryWrite, UnknownTeam

NUMBER_CHARS = 16
"""The length of the number that `commit.lua` puts before an audit entry."""

ENTRIES_AT_ONCE = 500
"""Audit entries read in one call, to bound how long the server is busy."""

_KEYS = (names.CHANGED, names.TEAMS, names.KEYS, names.STATES, names.ENDS)

_decode_entry = msgspec.json.Decoder(AuditEntry).decode


class RedisDirectory(RedisPart):
    """The DirectoryStore in hashes of teams and keys, and a sorted set of their generations."""

    @operation("changes")
    async def changes(self, since: int) -> DirectoryChanges:
        reply = await self.link.call("changes", _KEYS, since)
        now, generation, whole, teams, parts = reply
        return DirectoryChanges(
            generation,
            [decode_team(team) async for team in in_turns(teams)],
            [key_of(*part) async for part in in_turns(tuples(parts, 3))],
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
            arguments += (entry.at, msgspec.json.encode(entry))
        outcome, *lacking = await self.link.call(
            "commit", (*_KEYS, names.AUDIT), *arguments, allow_oom=_takes_away(write)
        )
        if outcome == b"no team":
            raise UnknownTeam(lacking[0].decode())
        return bool(outcome == b"ok")

    @operation("record_use")
    async def record_use(self, uses: Mapping[str, float]) -> None:
        arguments: list[Argument] = []
        for id, at in uses.items():
            arguments += (at, id)
        await self.link.call("record_use", (names.USES,), *arguments)

    @operation("last_uses")
    async def last_uses(self) -> dict[str, float]:
        found = await self.link.read(names.USES, "ZRANGE", 0, -1, "WITHSCORES")
        return {id.decode(): float(at) async for id, at in in_turns(tuples(found, 2))}


class RedisAudit(RedisPart):
    """The AuditStore in a sorted set, by time."""

    @operation("audit")
    async def entries(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        first = "-inf" if start is None else start
        last = "+inf" if end is None else f"({end}"
        found: list[AuditEntry] = []
        read = 0
        while limit is None or len(found) < limit:
            bounds = (last, first, "LIMIT", read, ENTRIES_AT_ONCE)
            members = await self.link.read(names.AUDIT, "ZREVRANGEBYSCORE", *bounds)
            entries = map(audit_entry_of, members)
            found += [entry for entry in entries if team in (None, entry.team)]
            read += len(members)
            if len(members) < ENTRIES_AT_ONCE:
                break
        return found if limit is None else found[:limit]

    @operation("forget_audit")
    async def forget(self, before: float) -> None:
        await self.link.call("forget_audit", (names.AUDIT,), before)


def _takes_away(write: DirectoryWrite) -> bool:
    """Whether it only revokes or deletes: that must be possible although memory is full."""
    teams_end = all(team.deleted for team in write.teams)
    keys_end = all(key.state != "active" for key in write.keys)
    return bool(write.teams or write.keys) and teams_end and keys_end


async def check_value(link: Link, name: str, value: bytes) -> bool:
    """Keep the first value under `name`; return whether `value` equals it."""
    return bool(await link.call("check_value", (), name, value) == value)


def key_of(text: bytes, state: bytes, ends: bytes | None) -> Key:
    """Return a key from its three parts in the store."""
    # The state is kept apart from the key: a script that wrote JSON would damage large numbers.
    return replace(
        decode_key(text), state=state.decode(), grace_ends=None if ends is None else float(ends)
    )


def audit_entry_of(member: bytes) -> AuditEntry:
    """Return the audit entry of a member of the sorted set: a number, then the entry."""
    return _decode_entry(member[NUMBER_CHARS:])
