"""The record format of answers outside this process, on the disk or in Redis, and its seal.

A record is the length and CRC-32 of its payload, then the payload: MessagePack of the answer's
key, times, numbers and, as raw bytes, its body. Damaged and foreign records are recognised.

In Redis a record has a seal: HMAC-SHA256 with a key derived from the pepper. Whoever can write to
Redis but does not know the pepper cannot put an image in front of a team. Gateways of different
stores may share one Redis: their keys there differ, although their teams may have the same names.
"""

import hmac
import math
import struct
from typing import Annotated, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from gateway.core.model import Bought, Picture
from gateway.core.picture_spans import MAX_OBJECTS

HEAD_BYTES = 12
"""Length and CRC-32 before the payload."""

MOST_PICTURES = 1_000
"""Answers with more are written without what is known of them. A request may ask for as many."""

OVERHEAD_BYTES = 4_096 + 128 * MOST_PICTURES
"""Most bytes of a payload without its body: a fingerprint, some numbers and the pictures."""

_HEAD = struct.Struct(">QI")


class CachedAnswer(NamedTuple):
    """An answer, its key in the cache, and its expiry in seconds since the epoch."""

    key: str
    expires: float
    bought: Bought


class _Record(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    expires: float
    at: float
    images: Annotated[int, Meta(ge=1, le=MAX_OBJECTS)]
    cost: Annotated[int, Meta(ge=0, le=10**15)]
    body: Annotated[bytes, Meta(min_length=1)]
    # Gateways of an older version neither write this nor read it.
    pictures: tuple[Picture, ...] = ()


_PLAIN = Picture()
"""Answers whose pictures are all like this are the same without them."""

_DECODER = msgspec.msgpack.Decoder(_Record)
_ENCODER = msgspec.msgpack.Encoder()


def encode(answer: CachedAnswer) -> bytes:
    """The record of an answer."""
    bought = answer.bought
    fields = (answer.key, answer.expires, bought.at, bought.images, bought.cost, bought.body)
    pictures = bought.pictures
    is_plain = len(pictures) > MOST_PICTURES or all(picture == _PLAIN for picture in pictures)
    payload = _ENCODER.encode(fields if is_plain else (*fields, pictures))
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def payload_length(head: bytes) -> int:
    """The length of the payload in bytes, if the head is undamaged."""
    length: int = _HEAD.unpack(head.ljust(HEAD_BYTES, b"\0"))[0]
    return length


def decode(head: bytes, payload: bytes | memoryview) -> CachedAnswer | None:
    """The answer in a record; None if the record is damaged or foreign."""
    if len(head) != HEAD_BYTES or _HEAD.unpack(head) != (len(payload), crc32(payload)):
        return None
    try:
        record = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a foreign record with a valid checksum
        return None
    if not math.isfinite(record.at) or math.isnan(record.expires):
        return None
    bought = Bought(
        body=record.body,
        images=record.images,
        cost=record.cost,
        at=record.at,
        kept=True,
        pictures=record.pictures,
    )
    return CachedAnswer(record.key, record.expires, bought)


# -- the seal -------------------------------------------------------------------------------------

SEAL_BYTES = 32

_MARK_DIGITS = 12


class Seal:
    """The seal of one store's gateways. `mark` identifies the store in Redis keys."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, b"cache", "sha256")
        self.mark = hmac.digest(self._key, b"mark", "sha256").hex()[:_MARK_DIGITS]

    def sealed(self, record: bytes) -> bytes:
        """The seal followed by the record. It takes a millisecond for each 1.5 MB."""
        return hmac.digest(self._key, record, "sha256") + record

    def opened(self, data: bytes) -> memoryview | None:
        """The record behind the seal; None if the seal is not this store's. As slow."""
        seal, record = data[:SEAL_BYTES], memoryview(data)[SEAL_BYTES:]
        right = hmac.digest(self._key, record, "sha256")
        return record if hmac.compare_digest(seal, right) else None
