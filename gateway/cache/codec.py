"""An answer as it is kept outside this process, on the disk or in Redis: a record with checks.

A record is its payload's length and CRC-32, then the payload: MessagePack of the answer's key,
times, numbers and, as raw bytes, its body. What was damaged, or never was such a record, is told
from an answer.
"""

import math
import struct
from typing import Annotated, NamedTuple
from zlib import crc32

import msgspec
from msgspec import Meta, Struct

from gateway.core.model import Bought

HEAD_BYTES = 12
"""Of a record before its payload."""

BESIDES_BYTES = 4_096
"""Bytes of a record besides its body: more than a fingerprint and some numbers take."""

_HEAD = struct.Struct(">QI")


class Kept(NamedTuple):
    """An answer, its key in the cache, and when it expires: seconds since the epoch."""

    key: str
    expires: float
    bought: Bought


class _Record(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    key: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    expires: float
    at: float
    images: Annotated[int, Meta(ge=1, le=1_000)]
    cost: Annotated[int, Meta(ge=0, le=10**12)]
    body: Annotated[bytes, Meta(min_length=1)]


_DECODER = msgspec.msgpack.Decoder(_Record)
_ENCODER = msgspec.msgpack.Encoder()


def encode(kept: Kept) -> bytes:
    """The record of an answer."""
    bought = kept.bought
    payload = _ENCODER.encode(
        _Record(kept.key, kept.expires, bought.at, bought.images, bought.cost, bought.body)
    )
    return _HEAD.pack(len(payload), crc32(payload)) + payload


def payload_length(head: bytes) -> int:
    """How long the payload behind this head is, in bytes, if the head is right."""
    length: int = _HEAD.unpack(head.ljust(HEAD_BYTES, b"\0"))[0]
    return length


def decode(head: bytes, payload: bytes | memoryview) -> Kept | None:
    """The answer in a record; None where it is damaged or something else."""
    if len(head) != HEAD_BYTES or _HEAD.unpack(head) != (len(payload), crc32(payload)):
        return None
    try:
        record = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a right checksum over what we never wrote
        return None
    if not math.isfinite(record.at) or math.isnan(record.expires):
        return None
    bought = Bought(
        body=record.body, images=record.images, cost=record.cost, at=record.at, kept=True
    )
    return Kept(record.key, record.expires, bought)
