"""Seals: what is behind one of our own, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.seal import SEAL_BYTES, Seal

OURS, THEIRS = Seal(b"pepper"), Seal(b"Pepper")


@given(st.binary(min_size=1, max_size=200))
def test_what_was_sealed_is_opened_by_all_with_the_pepper(record: bytes) -> None:
    sealed = OURS.sealed(record)
    assert len(sealed) == len(record) + SEAL_BYTES
    assert bytes(Seal(b"pepper").opened(sealed) or b"") == record
    assert THEIRS.opened(sealed) is None


@given(st.binary(max_size=50), st.data())
def test_what_was_changed_is_not_opened(record: bytes, data: st.DataObject) -> None:
    sealed = bytearray(OURS.sealed(record))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    assert OURS.opened(bytes(sealed)) is None
    assert OURS.opened(OURS.sealed(record)[:place]) is None


def test_marks_differ_and_stay() -> None:
    assert OURS.mark == Seal(b"pepper").mark != THEIRS.mark
