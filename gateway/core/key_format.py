"""The format of team keys: `sk-gw-<id>_<secret><checksum>`.

The id (12 characters, 60 bits) is public. The secret has 168 bits in 29 characters. The checksum
(6 characters, CRC-32 of all before it) is no protection. It detects a mistyped key, and lets a
scanner detect a leaked one, without asking a store.

The store keeps only an HMAC of the key under a pepper, so a copied store is useless. A fast hash
is enough, because nobody can try 168 bits.
"""

import hmac
import re
import string
import zlib
from collections.abc import Callable
from typing import Annotated, Literal

from gateway.core.listing import Shown
from gateway.core.model import Key

PREFIX = "sk-gw-"

ID_CHARS = 12
SECRET_BYTES = 21
SECRET_CHARS = 29
CHECKSUM_CHARS = 6

# Lower case without i, l, o and u: ids are read aloud and typed.
_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE62 = string.digits + string.ascii_letters

_KEY = re.compile(
    rf"{PREFIX}([{_BASE32}]{{{ID_CHARS}}})_"
    rf"[{_BASE62}]{{{SECRET_CHARS}}}([{_BASE62}]{{{CHECKSUM_CHARS}}})"
)

_UNKNOWN = bytes(32)
"""Compared with if the id is unknown, so that it takes as long as a wrong secret."""

_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Verdict = Literal["ok", "invalid", "disabled"]


def mint(entropy: Callable[[int], bytes]) -> tuple[str, str]:
    """Create a key. Returns its id and its whole text. `entropy` returns so many random bytes."""
    id = _encoded(int.from_bytes(entropy(8)) >> 4, _BASE32, ID_CHARS)
    secret = _encoded(int.from_bytes(entropy(SECRET_BYTES)), _BASE62, SECRET_CHARS)
    body = f"{PREFIX}{id}_{secret}"
    return id, body + _checksum(body)


def parse(token: str) -> str | None:
    """Return the id in a token, or None if it is not a key or its checksum is wrong."""
    match = _KEY.fullmatch(token)
    if match is None or _checksum(token[:-CHECKSUM_CHARS]) != match[2]:
        return None
    return match[1]


def digest(key: str, pepper: bytes) -> bytes:
    """Return the stored form of a key: the HMAC-SHA256 of its text, 32 bytes."""
    return hmac.digest(pepper, key.encode(), "sha256")


def verify(key: str, stored: Key | None, pepper: bytes, now: float) -> Verdict:
    """Check a key that `parse` accepted. `stored` is the key with its id, if there is one.

    An unknown id, a wrong secret, a revoked key and an expired one are all "invalid". Only a
    caller with the right secret gets "disabled". The comparison always runs, for constant time.
    """
    kept = _UNKNOWN if stored is None else stored.digest
    right = hmac.compare_digest(digest(key, pepper), kept)
    return condition(stored, now) if right and stored is not None else "invalid"


def condition(stored: Key, now: float) -> Verdict:
    """Check the state and the expiry of a key whose secret is right."""
    if stored.state == "active" and stored.expires is None and stored.grace_ends is None:
        return "ok"
    if stored.state == "revoked" or (stored.ends is not None and stored.ends <= now):
        return "invalid"
    return "disabled" if stored.state == "disabled" else "ok"


def pepper_check(pepper: bytes) -> bytes:
    """Return 32 bytes that detect a wrong pepper at start-up and do not reveal it."""
    # This is the digest of no key, because keys start with their prefix.
    return hmac.digest(pepper, b"pepper check", "sha256")


def public_id(id: str) -> str:
    """Return a key's id with its prefix, as lists show it and as it appears in the key itself."""
    return PREFIX + id


KeyId = Annotated[str, Shown(str, public_id)]
"""The id of a key. Its public form has the prefix."""


def normal_id(text: str) -> str:
    """Return the id in an id with or without its prefix, or (by mistake) in a whole key."""
    return text.strip().removeprefix(PREFIX).partition("_")[0]


def parse_duration(text: str, *, none: bool = False) -> float:
    """Return the seconds of a duration such as "90d", "24h", "30m" or "45s".

    Raises ValueError for anything else, for more than 999,999 units, and for "0d" unless `none`
    allows it.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not (none or int(match[1])):
        raise ValueError("must be a whole number with its unit s, m, h or d, such as 90d")
    return float(int(match[1]) * _UNITS[match[2]])


def _checksum(body: str) -> str:
    return _encoded(zlib.crc32(body.encode()), _BASE62, CHECKSUM_CHARS)


def _encoded(number: int, alphabet: str, length: int) -> str:
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        characters.append(alphabet[digit])
    return "".join(reversed(characters))
