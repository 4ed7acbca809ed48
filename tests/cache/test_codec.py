"""Records of answers: they come back as they were, or not at all."""

import pytest

from gateway.cache.codec import HEAD_BYTES, CachedAnswer, decode, encode, payload_length
from tests.support.answers import answer, key

KEPT = CachedAnswer(key("apple"), 1_800_000_000.5, answer(b'{"data":[1]}', at=1_700_000_000.25))


def read(record: bytes) -> CachedAnswer | None:
    return decode(record[:HEAD_BYTES], record[HEAD_BYTES:])


@pytest.mark.parametrize("size", [1, 1_000, 2_000_000])
def test_an_answer_comes_back_as_it_was(size: int) -> None:
    kept = KEPT._replace(bought=answer(bytes(size), at=5.5), expires=float("inf"))
    assert read(encode(kept)) == kept


def test_the_head_tells_the_payloads_length() -> None:
    record = encode(KEPT)
    assert payload_length(record[:HEAD_BYTES]) == len(record) - HEAD_BYTES


def test_any_damaged_bit_is_seen() -> None:
    record = encode(KEPT)
    for place in range(len(record) * 8):
        broken = bytearray(record)
        broken[place // 8] ^= 1 << place % 8
        assert read(bytes(broken)) is None


def test_what_is_cut_or_too_long_is_no_record() -> None:
    record = encode(KEPT)
    assert all(read(record[:length]) is None for length in range(len(record)))
    assert read(record + b"\0") is None
