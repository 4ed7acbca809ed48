"""The log of changes: written in the script of the change, read the latest first."""

import msgspec

from gateway.model import AuditEntry
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import Link

NUMBER_CHARS = 16
"""What `commit.lua` puts before an entry."""

ENTRIES_AT_ONCE = 500
"""Entries read in one call: bounds how long the server is busy with it."""

_encode = msgspec.json.Encoder()
_decode = msgspec.json.Decoder(AuditEntry)


def encode_entry(entry: AuditEntry) -> bytes:
    """An entry as JSON text."""
    return _encode.encode(entry)


async def audit(
    link: Link, start: float | None, end: float | None, team: str | None, limit: int | None
) -> list[AuditEntry]:
    """Entries from `start` to before `end`, the latest first."""
    keys = (names.META, names.AUDIT)
    first = "-inf" if start is None else start
    last = "+inf" if end is None else f"({end}"
    found: list[AuditEntry] = []
    read = 0
    while limit is None or len(found) < limit:
        bounds = (last, first, "LIMIT", read, ENTRIES_AT_ONCE)
        members = await link.call(scripts.READ, keys, "ZREVRANGEBYSCORE", *bounds)
        entries = [_decode.decode(member[NUMBER_CHARS:]) for member in members]
        found += [entry for entry in entries if team in (None, entry.team)]
        read += len(members)
        if len(members) < ENTRIES_AT_ONCE:
            break
    return found if limit is None else found[:limit]


async def forget(link: Link, before: float) -> None:
    """Forget the entries of before that time."""
    await link.call(scripts.FORGET_AUDIT, (names.META, names.AUDIT), before)
