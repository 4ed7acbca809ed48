"""Encodings are undone within the bound, or refused."""

import gzip
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.decompress import inflate

TEXT = b'{"data": []}' * 50


def raw_deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@given(st.binary(max_size=2_000), st.integers(0, 9))
def test_what_was_packed_comes_back(data: bytes, level: int) -> None:
    assert inflate(gzip.compress(data, level), "gzip", 2_000) == data
    assert inflate(gzip.compress(data, level), "X-Gzip ", 2_000) == data
    assert inflate(zlib.compress(data, level), "deflate", 2_000) == data
    assert inflate(raw_deflated(data), "deflate", 2_000) == data


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_the_bound_counts_what_comes_out(pack: object) -> None:
    assert callable(pack)
    name = "gzip" if pack is gzip.compress else "deflate"
    assert inflate(pack(TEXT), name, len(TEXT)) == TEXT
    with pytest.raises(ValueError, match="too long"):
        inflate(pack(TEXT), name, len(TEXT) - 1)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(ValueError, match="too long"):
        inflate(bomb, "gzip", 1_000)


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, gzip", "gzip;q=1", ""])
def test_other_encodings(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        inflate(gzip.compress(TEXT), name, 10_000)


@given(st.binary(max_size=100))
def test_junk_is_a_value_error_or_nothing_at_all(junk: bytes) -> None:
    for name in ("gzip", "deflate"):
        with suppress(ValueError):
            inflate(junk, name, 10_000)


@pytest.mark.parametrize("end", [-1, -8, 5, 0])
def test_cut_off(end: int) -> None:
    for name, packed in (("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))):
        with pytest.raises(ValueError, match=r"damaged|cut off"):
            inflate(packed[:end], name, 10_000)


def test_something_behind_the_end() -> None:
    with pytest.raises(ValueError, match="followed"):
        inflate(gzip.compress(TEXT) + b"x", "gzip", 10_000)
