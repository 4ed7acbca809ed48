"""Claims for what only one gateway of a store may do. Each ends by the store's clock.

Claims that have ended are deleted as others are made.
"""

from gateway.core.model import Claim
from gateway.core.tasks import in_turns
from gateway.stores.redis import names
from gateway.stores.redis.link import MICROSECONDS, Link, RedisPart, operation
from gateway.stores.redis.scripts import tuples

_KEYS = (names.CLAIMS, names.CLAIM_ENDS)


class RedisClaims(RedisPart):
    """The ClaimStore in a hash, and a sorted set of the claims' ends."""

    @operation("claim")
    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        left = await self._write(name, owner, seconds, "0", note)
        return None if left < 0 else left / MICROSECONDS

    @operation("complete_claim")
    async def complete(self, name: str, owner: str, seconds: float, note: bytes = b"") -> None:
        await self._write(name, owner, seconds, "1", note)

    @operation("claims")
    async def current(self) -> list[Claim]:
        found = await self.link.call("claims", _KEYS)
        return [_claim(*parts) async for parts in in_turns(tuples(found, 3))]

    async def _write(self, name: str, owner: str, seconds: float, done: str, note: bytes) -> int:
        arguments = (name, owner, _microseconds(seconds), done, note)
        left: int = await self.link.call("claim", _KEYS, *arguments)
        return left


async def restore_claim(link: Link, claim: Claim) -> None:
    """Write a claim from an archive."""
    owner = claim.owner.encode()
    record = b"%d%d:%s%s" % (claim.done, len(owner), owner, claim.note)
    await link.call("restore_claim", _KEYS, claim.name, _microseconds(claim.ends), record)


def _claim(name: bytes, ends: bytes, record: bytes) -> Claim:
    length, _, rest = record[1:].partition(b":")
    size = int(length)
    return Claim(
        name=name.decode(),
        owner=rest[:size].decode(),
        ends=float(ends) / MICROSECONDS,
        done=record[:1] == b"1",
        note=rest[size:],
    )


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
