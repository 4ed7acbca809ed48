"""Claims: what gateways of one store do once only. Each ends by the store's clock.

Those that have ended are forgotten as others are made.
"""

from gateway.core.model import Claim
from gateway.stores.redis import names, scripts
from gateway.stores.redis.link import MICROSECONDS, Link

_KEYS = (names.META, names.CLAIMS, names.CLAIM_ENDS)


async def claim(link: Link, name: str, owner: str, seconds: float, note: bytes) -> float | None:
    """Claim it, or tell in how many seconds it can be claimed."""
    left = await link.call(scripts.CLAIM, _KEYS, name, owner, _microseconds(seconds), "0", note)
    return None if left < 0 else left / MICROSECONDS


async def complete(link: Link, name: str, owner: str, seconds: float, note: bytes) -> None:
    """Mark it as done for so many seconds."""
    await link.call(scripts.CLAIM, _KEYS, name, owner, _microseconds(seconds), "1", note)


async def all_claims(link: Link) -> list[Claim]:
    """Those that have not ended."""
    found = await link.call(scripts.CLAIMS, _KEYS)
    return [_claim(*parts) for parts in zip(*[iter(found)] * 3, strict=True)]


async def restore(link: Link, claim: Claim) -> None:
    """Write it as it was."""
    owner = claim.owner.encode()
    record = b"%d%d:%s%s" % (claim.done, len(owner), owner, claim.note)
    await link.call(scripts.RESTORE_CLAIM, _KEYS, claim.name, _microseconds(claim.ends), record)


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
