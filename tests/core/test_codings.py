"""Which format of zlib a coding has."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.codings import window_bits


@given(st.binary(max_size=300), st.integers(-1, 9), st.integers(9, 15))
def test_deflate_with_and_without_a_header_is_told_apart(
    data: bytes, level: int, bits: int
) -> None:
    for wbits in (bits, -bits):
        stream = zlib.compressobj(level, wbits=wbits)
        packed = stream.compress(data) + stream.flush()
        found = window_bits("Deflate", packed)
        assert found is not None
        assert (found > 0) == (wbits > 0)
        assert zlib.decompress(packed, found) == data


@pytest.mark.parametrize("coding", ["br", "", "identity", "gzip;q=1", "gz", "x-deflate"])
def test_other_codings(coding: str) -> None:
    assert window_bits(coding, b"") is None
