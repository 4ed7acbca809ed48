"""Records of answers, sealed or not: they are read as they were written, or not at all."""

from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.cache.codec import (
    HEAD_BYTES,
    MOST_PICTURES,
    OVERHEAD_BYTES,
    SEAL_BYTES,
    CachedAnswer,
    Seal,
    decode,
    encode,
    payload_length,
)
from gateway.core.model import Picture
from tests.support.answers import answer, key

NOW = 1_800_000_000.5
KEPT = CachedAnswer(key("apple"), NOW, answer(b'{"data":[1]}', at=1_700_000_000.25))
NAME = "0" * 64


def read(record: bytes) -> CachedAnswer | None:
    return decode(record[:HEAD_BYTES], record[HEAD_BYTES:])


@pytest.mark.parametrize("size", [1, 1_000, 2_000_000])
def test_an_answer_is_read_as_it_was_written(size: int) -> None:
    kept = KEPT._replace(bought=answer(bytes(size), at=5.5), expires=float("inf"))
    record = encode(kept)
    assert read(record) == kept
    assert payload_length(record[:HEAD_BYTES]) == len(record) - HEAD_BYTES


def test_an_answer_with_far_more_images_than_asked_for_is_read() -> None:
    kept = KEPT._replace(bought=replace(KEPT.bought, images=19_999, cost=10**14))
    assert read(encode(kept)) == kept


PICTURE = Picture(name="a" * 64 + ".webp", has_url=True, until=NOW, fetched=True)


@pytest.mark.parametrize("pictures", [(Picture(), PICTURE), (PICTURE,) * MOST_PICTURES])
def test_pictures_are_read_as_they_were_written(pictures: tuple[Picture, ...]) -> None:
    kept = KEPT._replace(bought=replace(KEPT.bought, pictures=pictures))
    record = encode(kept)
    assert read(record) == kept
    assert len(record) < HEAD_BYTES + len(kept.bought.body) + OVERHEAD_BYTES


@pytest.mark.parametrize("pictures", [(Picture(), Picture()), (PICTURE,) * (MOST_PICTURES + 1)])
def test_an_answer_that_older_gateways_can_read_is_written_for_them(
    pictures: tuple[Picture, ...],
) -> None:
    assert encode(KEPT._replace(bought=replace(KEPT.bought, pictures=pictures))) == encode(KEPT)


def test_every_flipped_bit_is_detected() -> None:
    record = encode(KEPT)
    for place in range(len(record) * 8):
        broken = bytearray(record)
        broken[place // 8] ^= 1 << place % 8
        assert read(bytes(broken)) is None


def test_a_record_of_another_length_is_damaged() -> None:
    record = encode(KEPT)
    assert all(read(record[:length]) is None for length in range(len(record)))
    assert read(record + b"\0") is None


@pytest.mark.parametrize(
    "fields",
    [
        (NAME, NOW, NOW, 1, 1),
        (NAME, NOW, NOW, 1, 1, b"{}", 1),
        ("prompt", NOW, NOW, 1, 1, b"{}"),
        (NAME, "x", NOW, 1, 1, b"{}"),
        (NAME, NOW, float("-inf"), 1, 1, b"{}"),
        (NAME, NOW, NOW, 0, 1, b"{}"),
        (NAME, NOW, NOW, 1, -1, b"{}"),
        (NAME, NOW, NOW, 1, 2**63 - 1, b"{}"),
        (NAME, NOW, NOW, 1, 1, b""),
        {"key": NAME},
        None,
    ],
)
def test_a_record_of_another_format_is_foreign(fields: object) -> None:
    payload = msgspec.msgpack.encode(fields)
    head = len(payload).to_bytes(8, "big") + crc32(payload).to_bytes(4, "big")
    assert decode(head, payload) is None


# -- the seal -----------------------------------------------------------------------------------

OURS, THEIRS = Seal(b"pepper"), Seal(b"Pepper")


@given(st.binary(min_size=1, max_size=200))
def test_only_a_seal_of_the_same_pepper_opens_a_record(record: bytes) -> None:
    sealed = OURS.sealed(record)
    assert len(sealed) == len(record) + SEAL_BYTES
    assert bytes(Seal(b"pepper").opened(sealed) or b"") == record
    assert THEIRS.opened(sealed) is None


@given(st.binary(max_size=50), st.data())
def test_a_changed_or_cut_record_is_not_opened(record: bytes, data: st.DataObject) -> None:
    sealed = bytearray(OURS.sealed(record))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    assert OURS.opened(bytes(sealed)) is None
    assert OURS.opened(OURS.sealed(record)[:place]) is None


def test_a_mark_depends_on_the_pepper_alone() -> None:
    assert OURS.mark == Seal(b"pepper").mark != THEIRS.mark
