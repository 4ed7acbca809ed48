"""Encodings are inflated up to a limit, or refused."""

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
def test_compressed_data_is_inflated(data: bytes, level: int) -> None:
    assert inflate(gzip.compress(data, level), "gzip", 2_000) == (data, True)
    assert inflate(gzip.compress(data, level), "X-Gzip ", 2_000) == (data, True)
    assert inflate(zlib.compress(data, level), "deflate", 2_000) == (data, True)
    assert inflate(raw_deflated(data), "deflate", 2_000) == (data, True)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_the_limit_counts_inflated_bytes(pack: object) -> None:
    assert callable(pack)
    name = "gzip" if pack is gzip.compress else "deflate"
    assert inflate(pack(TEXT), name, len(TEXT)) == (TEXT, True)
    assert inflate(pack(TEXT), name, len(TEXT) - 1) == (TEXT[:-1], False)


@pytest.mark.parametrize("name", ["br", "zstd", "compress", "gzip, gzip", "gzip;q=1", ""])
def test_other_encodings(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        inflate(gzip.compress(TEXT), name, 10_000)


@given(st.binary(max_size=100))
def test_junk_raises_only_value_errors(junk: bytes) -> None:
    for name in ("gzip", "deflate"):
        with suppress(ValueError):
            inflate(junk, name, 10_000)


@pytest.mark.parametrize("end", [-1, -8, 5, 0])
def test_cut_off(end: int) -> None:
    for name, packed in (("gzip", gzip.compress(TEXT)), ("deflate", zlib.compress(TEXT))):
        text, is_whole = inflate(packed[:end], name, 10_000)
        assert TEXT.startswith(text)
        assert not is_whole


def test_bytes_after_the_end() -> None:
    assert inflate(gzip.compress(TEXT) + b"x", "gzip", 10_000) == (TEXT, False)
