"""Base64 in pieces is the same as in one."""

import random
from base64 import b64encode

import pytest

from gateway.images.encoding import PIECE_BYTES, decode, encode

SIZES = [0, 1, 2, 3, 4, 100, *(PIECE_BYTES + more for more in (-1, 0, 1, 2, 3)), 3 * PIECE_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_both_ways(size: int) -> None:
    data = random.Random(size).randbytes(size)
    text = b64encode(data)
    assert encode(data) == text
    assert decode(text) == data
    assert decode(memoryview(text)) == data


@pytest.mark.parametrize(
    "text",
    [
        *(b"A", b"AA", b"AAA", b"AAAAA", b"AB==", b"AAB=", b"A===", b"====", b"AA==AAAA"),
        *(b"AA\nAA", b"AAA\n", b"AA-_", b" AAA", b"AAAA====", b"\xff\xff\xff\xff"),
        b"A" * (PIECE_BYTES // 3 * 4 - 2) + b"==" + b"AAAA",
    ],
)
def test_a_text_that_cannot_be_made_again_is_not_decoded(text: bytes) -> None:
    assert decode(text) is None
