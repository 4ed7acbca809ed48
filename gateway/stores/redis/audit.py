"""The audit log: written in the script of the change, read the latest first."""

from collections.abc import Sequence

import msgspec

from gateway.core.model import AuditEntry
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link, RedisPart, operation
from gateway.stores.redis.scripts import Argument

NUMBER_CHARS = 16
"""The length of the number that `begin.lua` puts before an entry."""

ENTRIES_AT_ONCE = 500
"""Entries read in one call, to bound how long the server is busy."""

_KEYS = (names.META, names.AUDIT)

_decode = msgspec.json.Decoder(AuditEntry)


def encode_entry(entry: AuditEntry) -> bytes:
    """Encode an entry as JSON."""
    return msgspec.json.encode(entry)


def decode_member(member: bytes) -> AuditEntry:
    """Decode a member of the sorted set: a number, then the entry."""
    return _decode.decode(member[NUMBER_CHARS:])


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
            entries = list(map(decode_member, members))
            found += [entry for entry in entries if team in (None, entry.team)]
            read += len(members)
            if len(members) < ENTRIES_AT_ONCE:
                break
        return found if limit is None else found[:limit]

    @operation("forget_audit")
    async def forget(self, before: float) -> None:
        await self.link.call(scripts.FORGET_AUDIT, _KEYS, before)


async def write_audit(link: Link, entries: Sequence[AuditEntry]) -> None:
    """Write entries in this order, apart from any change of the directory."""
    arguments: list[Argument] = []
    for entry in entries:
        arguments += (entry.at, encode_entry(entry))
    await link.call(scripts.WRITE_AUDIT, _KEYS, *arguments)
