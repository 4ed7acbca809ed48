"""Seals: only records that were sealed with the same pepper are opened."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.seal import SEAL_BYTES, Seal

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
