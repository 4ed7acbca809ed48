"""The file of answers: what was written comes back, and damage of any kind costs only itself."""

import os
import random
import resource
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from gateway.cache.codec import CachedAnswer
from gateway.cache.snapshot_file import MAGIC, NAME, Foreign, Reading, read, write
from gateway.core.model import Bought

NOW = 1_800_000_000.0


def entry(number: int, body: bytes = b"", expires: float = NOW + 100) -> CachedAnswer:
    key = sha256(str(number).encode()).hexdigest()
    body = body or b'{"data":[%d]}' % number
    return CachedAnswer(
        key, expires, Bought(body=body, images=1, cost=40_000, at=NOW - 5, kept=True)
    )


def read_all(folder: Path, max_bytes: int = 2**30, seconds: float = 60) -> Reading:
    return read(folder, NOW, max_bytes=max_bytes, max_entry_bytes=2**20, seconds=seconds)


ENTRIES = [entry(number) for number in range(5)]
BEFORE_FIRST = len(MAGIC)
LENGTH = 12 + len(
    msgspec.msgpack.encode((ENTRIES[0].key, NOW + 100, NOW - 5, 1, 40_000, b'{"data":[0]}'))
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which ENTRIES were written."""
    assert write(tmp_path / "cache", ENTRIES, 60) == 5
    return tmp_path / "cache"


def test_what_was_written_comes_back_in_its_order(folder: Path) -> None:
    assert read_all(folder) == Reading(ENTRIES, damaged=0, whole=True)


def test_only_the_owner_can_read_it(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / NAME).stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_the_expired_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [entry(1, expires=NOW), entry(2), entry(3, expires=NOW - 1)], 60)
    assert read_all(tmp_path) == Reading([entry(2)])


def test_nothing_is_there(tmp_path: Path) -> None:
    assert read_all(tmp_path) == Reading([])
    assert read_all(tmp_path / "nowhere") == Reading([])


def test_an_empty_cache_replaces_the_former_file(folder: Path) -> None:
    assert write(folder, [], 60) == 0
    assert read_all(folder) == Reading([])


# -- bounds -------------------------------------------------------------------------------------


def ticking() -> Iterator[float]:
    yield from map(float, range(1000))


def test_writing_ends_in_time(tmp_path: Path) -> None:
    assert write(tmp_path, ENTRIES, 3, ticking().__next__) == 2
    assert read_all(tmp_path) == Reading(ENTRIES[:2])


def test_reading_ends_in_time(folder: Path) -> None:
    found = read(
        folder, NOW, max_bytes=2**30, max_entry_bytes=9, seconds=3, clock=ticking().__next__
    )
    assert found == Reading(ENTRIES[:2], whole=False)


def test_reading_ends_where_the_room_does(folder: Path) -> None:
    assert read_all(folder, max_bytes=30) == Reading(ENTRIES[:2], whole=False)


# -- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", MAGIC[:-1], b"image-gateway answers 2\n" + b"x" * 99, b"\x89PNG\r\n", b"\0" * 9],
)
def test_a_file_of_another_kind_or_version(folder: Path, content: bytes) -> None:
    (folder / NAME).write_bytes(content)
    with pytest.raises(Foreign):
        read_all(folder)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(Foreign):
        read_all(tmp_path)


def test_a_truncated_file_gives_what_is_whole(folder: Path) -> None:
    whole = (folder / NAME).read_bytes()
    for end in range(len(MAGIC), len(whole)):
        (folder / NAME).write_bytes(whole[:end])
        found = read_all(folder)
        complete = (end - BEFORE_FIRST) // LENGTH
        at_an_end = (end - BEFORE_FIRST) % LENGTH == 0
        assert found == Reading(ENTRIES[:complete], int(not at_an_end), at_an_end)


def test_any_flipped_bit_costs_at_most_its_record_and_what_follows(folder: Path) -> None:
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
    "fields",
    [
        *(("0" * 64, NOW + 9, NOW, 1, 1), ("0" * 64, NOW + 9, NOW, 1, 1, b"{}", 1)),
        *(("prompt", NOW + 9, NOW, 1, 1, b"{}"), ("0" * 64, "x", NOW, 1, 1, b"{}")),
        *(("0" * 64, NOW + 9, NOW, 0, 1, b"{}"), ("0" * 64, NOW + 9, NOW, 1, -1, b"{}")),
        *(("0" * 64, NOW + 9, NOW, 1, 1, b""), {"key": "0" * 64}, None),
    ],
)
def test_a_record_of_another_shape_is_passed_over(folder: Path, fields: object) -> None:
    payload = msgspec.msgpack.encode(fields)
    record = len(payload).to_bytes(8, "big") + crc32(payload).to_bytes(4, "big") + payload
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(MAGIC + record + whole[len(MAGIC) :])
    assert read_all(folder) == Reading(ENTRIES, damaged=1)


@pytest.mark.parametrize(
    "tail", [b"\0" * 1_000_000, b"\xff" * 1_000_000, random.randbytes(100_000)]
)
def test_rubbish_at_the_end_is_not_read_for_long(folder: Path, tail: bytes) -> None:
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
def test_a_full_disk_leaves_the_former_file(folder: Path, body: bytes) -> None:
    with small_disk(500), pytest.raises(OSError, match="too large"):
        write(folder, [entry(number, body) for number in range(9)], 60)
    assert [file.name for file in folder.iterdir()] == [NAME]
    assert read_all(folder) == Reading(ENTRIES)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        write(tmp_path / "file" / "cache", ENTRIES, 60)


def test_the_draft_of_a_killed_process_goes(folder: Path) -> None:
    old, new = folder / f"{NAME}.1.draft", folder / f"{NAME}.2.draft"
    mine = folder / f"{NAME}.{os.getpid()}.draft"
    for draft in (old, new, mine):
        draft.write_text("half")
    os.utime(old, (1, 1))
    write(folder, ENTRIES, 60)
    assert {file.name for file in folder.iterdir()} == {NAME, new.name}
    assert read_all(folder) == Reading(ENTRIES)
