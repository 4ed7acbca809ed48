"""The snapshot file: answers are read as they were written, and damage loses only its part."""

import itertools
import os
import random
import resource
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cache.codec import CachedAnswer, encode
from gateway.cache.snapshot_file import MAGIC, NAME, Foreign, Reading, read, write
from tests.support.answers import answer, key

NOW = 1_800_000_000.0


def entry(number: int, body: bytes = b"", expires: float = NOW + 100) -> CachedAnswer:
    bought = answer(body or b'{"data":[%d]}' % number, at=NOW - 5)
    return CachedAnswer(key(number), expires, bought)


def read_all(folder: Path, max_bytes: int = 2**30, seconds: float = 60) -> Reading:
    return read(folder, NOW, max_bytes=max_bytes, max_entry_bytes=2**20, seconds=seconds)


ENTRIES = [entry(number) for number in range(3)]
BEFORE_FIRST = len(MAGIC)
LENGTH = len(encode(ENTRIES[0]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which ENTRIES were written."""
    assert write(tmp_path / "cache", ENTRIES, 60) == 3
    return tmp_path / "cache"


def test_answers_are_read_in_the_order_in_which_they_were_written(folder: Path) -> None:
    assert read_all(folder) == Reading(ENTRIES, damaged=0, whole=True)


def test_only_the_owner_can_read_it(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_expired_answers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [entry(1, expires=NOW), entry(2), entry(3, expires=NOW - 1)], 60)
    assert read_all(tmp_path) == Reading([entry(2)])


def test_without_a_file_or_answers_nothing_is_read(tmp_path: Path, folder: Path) -> None:
    assert read_all(tmp_path) == read_all(tmp_path / "nowhere") == Reading([])
    assert write(folder, [], 60) == 0
    assert read_all(folder) == Reading([])


# -- bounds -------------------------------------------------------------------------------------


def ticking() -> Callable[[], float]:
    """A clock that runs one second a look."""
    return map(float, itertools.count()).__next__


def test_writing_ends_at_its_time_limit(tmp_path: Path) -> None:
    assert write(tmp_path, ENTRIES, 3, ticking()) == 2
    assert read_all(tmp_path) == Reading(ENTRIES[:2])


def test_reading_ends_at_its_time_limit(folder: Path) -> None:
    found = read(folder, NOW, max_bytes=2**30, max_entry_bytes=9, seconds=3, clock=ticking())
    assert found == Reading(ENTRIES[:2], whole=False)


def test_reading_ends_at_the_size_limit(folder: Path) -> None:
    assert read_all(folder, max_bytes=30) == Reading(ENTRIES[:2], whole=False)


# -- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", MAGIC[:-1], b"image-gateway answers 2\n" + b"x" * 99, b"\x89PNG\r\n", b"\0" * 9],
)
def test_a_file_of_another_kind_or_version_is_foreign(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    with pytest.raises(Foreign):
        read_all(folder)


def test_a_pipe_is_foreign(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(Foreign):
        read_all(tmp_path)


def test_whole_records_of_a_truncated_file_are_read(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    for end in range(len(MAGIC), len(whole)):
        (folder / NAME).write_bytes(whole[:end])
        found = read_all(folder)
        complete = (end - BEFORE_FIRST) // LENGTH
        at_an_end = (end - BEFORE_FIRST) % LENGTH == 0
        assert found == Reading(ENTRIES[:complete], int(not at_an_end), at_an_end)


def test_a_flipped_bit_loses_its_record_or_all_from_there_on(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    for at in range(len(MAGIC), len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1 << random.randrange(8)
        (folder / NAME).write_bytes(broken)
        found = read_all(folder)
        record, place = divmod(at - BEFORE_FIRST, LENGTH)
        assert found.kept[:record] == ENTRIES[:record]
        assert all(kept in ENTRIES for kept in found.kept)
        assert found.damaged
        if place >= 8:  # not in the length
            assert found == Reading([*ENTRIES[:record], *ENTRIES[record + 1 :]], 1)


@pytest.mark.parametrize(
    "tail", [b"\0" * 1_000_000, b"\xff" * 1_000_000, random.randbytes(100_000)]
)
def test_garbage_at_the_end_takes_no_time(folder: Path, tail: bytes) -> None:
    with (folder / NAME).open("ab") as file:
        file.write(tail)
    started = time.monotonic()
    found = read_all(folder)
    assert (found.kept, found.whole) == (ENTRIES, False)
    assert time.monotonic() - started < 1


# -- writing that fails -------------------------------------------------------------------------


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("body", [b"x" * 10, b"x" * 1_000_000])
def test_a_full_disk_keeps_the_former_file(folder: Path, body: bytes) -> None:
    with small_disk(500), pytest.raises(OSError, match="too large"):
        write(folder, [entry(number, body) for number in range(9)], 60)
    assert [file.name for file in folder.iterdir()] == [NAME]
    assert read_all(folder) == Reading(ENTRIES)


def test_the_draft_of_a_killed_process_is_removed(folder: Path) -> None:
    old, new = folder / f"{NAME}.1.draft", folder / f"{NAME}.2.draft"
    mine = folder / f"{NAME}.{os.getpid()}.draft"
    for draft in (old, new, mine):
        draft.write_text("half")
    os.utime(old, (1, 1))
    write(folder, ENTRIES, 60)
    assert {file.name for file in folder.iterdir()} == {NAME, new.name}
    assert read_all(folder) == Reading(ENTRIES)
