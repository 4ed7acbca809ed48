"""Pictures are kept once, found again, and removed in the order of their use."""

import asyncio
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.images.files import BLOCK_BYTES, RECENT_SECONDS, STALE_SECONDS
from gateway.images.picture import is_name
from gateway.images.store import ImageStore, answer_file
from tests.support.image_store import NOW, Bench, picture

PNG = picture(0)
NAME = f"{sha256(PNG).hexdigest()}.png"


async def keep(store: ImageStore, number: int) -> str:
    """Keep a picture of this number, and return its name."""
    name = await store.keep(picture(number))
    assert name is not None
    return name


def overwrite(path: Path, data: bytes) -> None:
    """Damage a file. Its time stays."""
    path.write_bytes(data)
    os.utime(path, (NOW, NOW))


async def test_a_picture_is_kept_once(bench: Bench) -> None:
    assert not await bench.store.has(NAME)
    assert await bench.store.read(NAME) is None
    assert await bench.store.keep(PNG) == NAME
    inode = bench.file(NAME).stat().st_ino
    assert await bench.store.keep(PNG) == NAME
    assert bench.files == [bench.file(NAME)]
    assert bench.file(NAME).stat().st_ino == inode
    assert await bench.store.has(NAME)
    assert await bench.store.read(NAME) == PNG
    assert bench.file(NAME).read_bytes() == PNG


async def test_only_the_owner_can_read_it(bench: Bench) -> None:
    await bench.store.keep(PNG)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (bench.folder, bench.file(NAME).parent)}
    assert modes == {0o700}
    assert stat.S_IMODE(bench.file(NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [PNG[:-1], b"", bytes(len(PNG)), PNG + b"\0"])
async def test_a_damaged_file_is_a_miss_and_removed(bench: Bench, damage: bytes) -> None:
    await bench.store.keep(PNG)
    overwrite(bench.file(NAME), damage)
    assert await bench.store.read(NAME) is None
    assert bench.files == []
    assert bench.evicted == {"damaged": 1}
    assert await bench.store.keep(PNG) == NAME
    assert await bench.store.read(NAME) == PNG


async def test_a_picture_of_another_run_is_written_again_in_case_it_is_damaged(
    bench: Bench,
) -> None:
    await bench.store.keep(PNG)
    overwrite(bench.file(NAME), bytes(len(PNG)))
    async with bench.another() as store:
        await store.scan()
        assert await store.keep(PNG) == NAME
        assert await store.read(NAME) == PNG


async def test_switched_off_it_keeps_and_serves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "images")
    bench.use(enabled=False)
    async with bench.store as store:
        assert await store.keep(PNG) is None
        assert not bench.folder.exists()
        bench.use(enabled=True)
        assert await store.keep(PNG) == NAME
        bench.use(enabled=False)
        assert await store.read(NAME) is None
        assert not await store.has(NAME)
    assert bench.not_kept == {}


# -- links ----------------------------------------------------------------------------------------


async def test_a_part_is_read_alone_and_a_file_hashed_once(bench: Bench) -> None:
    await bench.store.keep(PNG)
    assert await bench.store.read(NAME, 3, 5) == PNG[3:8]
    overwrite(bench.file(NAME), bytes(len(PNG)))
    assert await bench.store.read(NAME, 3, 5) == bytes(5)  # not hashed: inode, time and size agree
    os.utime(bench.file(NAME), (NOW + 1, NOW + 1))
    assert await bench.store.size(NAME) == len(PNG)  # not read at all
    assert await bench.store.read(NAME, 3, 5) is None
    assert await bench.store.size(NAME) is None


async def test_a_purchase_does_not_wait_behind_links(bench: Bench) -> None:
    await bench.store.keep(PNG)
    end = threading.Event()
    links = [asyncio.create_task(bench.store.run(end.wait, bench.store._links)) for _ in range(9)]
    link = asyncio.create_task(bench.store.read(NAME))
    try:
        async with asyncio.timeout(5):
            assert await bench.store.has(NAME)
            assert await bench.store.keep(picture(1))
        assert not link.done()
    finally:
        end.set()
    await asyncio.gather(*links)
    assert await link == PNG


# -- which pictures leave -------------------------------------------------------------------------


async def test_the_least_recently_used_leave_first(bench: Bench) -> None:
    bench.use(max_bytes=3 * BLOCK_BYTES)
    names = []
    for number in range(3):
        bench.now += 1
        names.append(await keep(bench.store, number))
    bench.now += RECENT_SECONDS
    assert await bench.store.read(names[0])
    bench.now += 1
    await bench.store.keep(picture(3))
    assert [await bench.store.has(name) for name in names] == [True, False, True]
    assert bench.evicted == {"size": 1}
    assert bench.known.total == 3 * BLOCK_BYTES
    assert len(bench.known) == 3
    large = picture(4, padding=3 * BLOCK_BYTES)
    assert await bench.store.keep(large) is None
    assert bench.not_kept == {"too_large": 1}
    assert len(bench.files) == 3


async def test_a_new_limit_and_a_restart_know_the_order_of_use(bench: Bench) -> None:
    names = []
    for number in range(4):
        bench.now += 100
        names.append(await keep(bench.store, number))
    await bench.store.read(names[0])
    bench.use(max_bytes=2 * BLOCK_BYTES)
    async with bench.another() as store:
        await store.scan()
        assert [await store.has(name) for name in names] == [True, False, False, True]


async def test_what_nobody_uses_leaves_after_its_time(bench: Bench) -> None:
    bench.use(ttl_seconds=1_000.0, link_seconds=940.0)
    used, unused = [await keep(bench.store, number) for number in range(2)]
    bench.now += 999
    assert await bench.store.read(used)
    bench.now += 1
    assert await bench.store.read(unused) is None
    await bench.store.keep(picture(1))
    bench.now += 999
    await bench.store.scan()
    assert [path.name for path in bench.files] == [unused]
    assert bench.evicted == {"expired": 2}


async def test_what_was_just_used_stays_and_a_further_one_is_not_kept(bench: Bench) -> None:
    bench.use(max_bytes=2 * BLOCK_BYTES)
    names = [await keep(bench.store, number) for number in range(2)]
    bench.now += 50
    assert await bench.store.has(names[0])
    bench.now += 9
    assert await bench.store.keep(picture(2)) is None
    await bench.store.scan()
    assert [path.name for path in bench.files] == sorted(names)
    assert bench.not_kept == {"no_room": 1}
    bench.now += 1  # only the second one's minute is over
    assert await bench.store.keep(picture(2))
    assert await bench.store.keep(picture(3)) is None
    assert [await bench.store.has(name) for name in names] == [True, False]


async def test_a_picture_stays_while_a_link_to_it_works(bench: Bench) -> None:
    bench.use(ttl_seconds=5.0, link_seconds=1_000.0)
    await bench.store.keep(PNG)
    bench.now += 59
    async with bench.another() as store:  # it has not looked at the folder yet
        assert await store.has(NAME)  # the link is made now
        bench.now += 1_000
        await store.scan()
        assert await store.read(NAME) == PNG


async def test_without_a_time_of_its_own_it_has_the_caches(bench: Bench) -> None:
    assert bench.store.life == bench.settings.cache.ttl_seconds


async def test_a_use_is_written_at_most_once_a_minute(bench: Bench) -> None:
    await bench.store.keep(PNG)
    bench.now += 59
    await bench.store.read(NAME)
    assert bench.file(NAME).stat().st_mtime == NOW
    bench.now += 2
    await bench.store.keep(PNG)
    assert bench.file(NAME).stat().st_mtime == bench.now


# -- several processes, and what they leave behind ------------------------------------------------


async def test_two_processes_share_a_folder(bench: Bench) -> None:
    async with bench.another() as other:
        assert await other.keep(PNG) == NAME
        assert await bench.store.read(NAME) == PNG
        bench.file(NAME).unlink()
        assert await other.read(NAME) is None
        assert not await bench.store.has(NAME)
        assert await other.keep(PNG) == NAME
        # Each knows of the other's files after a scan, and spares what the other has used.
        bench.use(max_bytes=2 * BLOCK_BYTES)
        bench.now += 100
        second = await keep(other, 1)
        await bench.store.scan()
        bench.now += 100
        assert await other.read(NAME)
        bench.now += 100
        third = await keep(bench.store, 2)
        names = (NAME, second, third)
        assert [await bench.store.has(name) for name in names] == [True, False, True]


async def test_drafts_of_dead_processes_are_removed(bench: Bench) -> None:
    await bench.store.keep(PNG)
    old, new = (bench.file(NAME).with_name(f".{NAME}.{pid}.0.draft") for pid in (1, 2))
    for draft, age in ((old, STALE_SECONDS + 1), (new, 1)):
        draft.write_bytes(PNG[:10])
        os.utime(draft, (time.time() - age,) * 2)
    await bench.store.scan()
    assert bench.files == [new, bench.file(NAME)]


WRITER = """
import sys
from pathlib import Path
from gateway.images.files import Files
from gateway.images.picture import name_of
files, number = Files(Path(sys.argv[1])), 0
files.prepare()
while True:
    number += 1
    data = b"\\x89PNG\\r\\n\\x1a\\n" + number.to_bytes(8, "big") * 200_000
    files.write(name_of(data), data, 1_800_000_000.0, 2**40)
    if number == 1:
        print("ready", flush=True)
"""


def killed_writer(folder: Path) -> None:
    """Run a process that writes pictures, and kill it in the middle."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)


async def test_a_killed_process_leaves_no_half_picture(bench: Bench) -> None:
    await asyncio.to_thread(killed_writer, bench.folder)
    whole = [path for path in bench.files if is_name(path.name)]
    assert whole
    for path in whole:
        assert path.name.startswith(sha256(path.read_bytes()).hexdigest())
    for path in bench.files:
        if not is_name(path.name):
            os.utime(path, (time.time() - STALE_SECONDS - 1,) * 2)
    await bench.store.scan()
    assert all(is_name(path.name) for path in bench.files)


# -- disks that fail ------------------------------------------------------------------------------


async def test_a_folder_that_goes_away_is_one_line_and_its_return_another(bench: Bench) -> None:
    away = bench.folder.with_name("away")
    await bench.store.keep(PNG)
    with capture_logs() as lines:
        bench.folder.rename(away)
        for number in range(3):
            assert await bench.store.keep(picture(number)) is None
        assert await bench.store.read(NAME) is None
        await bench.store.scan()
        away.rename(bench.folder)
        bench.store._failed_at -= 60
        assert await bench.store.keep(PNG) == NAME
        assert await bench.store.keep(picture(1))
    assert [line["event"] for line in lines] == ["pictures are not kept", "pictures are kept again"]
    assert lines[0]["reason"] == "folder_missing"
    assert bench.not_kept == {"folder_missing": 3}


async def test_a_folder_that_is_emptied_fills_again(bench: Bench) -> None:
    await bench.store.keep(PNG)
    for path in bench.folder.iterdir():
        shutil.rmtree(path)
    assert await bench.store.read(NAME) is None
    assert await bench.store.keep(PNG) == NAME
    assert await bench.store.read(NAME) == PNG


async def test_a_full_disk_leaves_no_draft(bench: Bench) -> None:
    large = picture(0, padding=1_000_000)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, former[1]))
    try:
        with capture_logs() as lines:
            assert await bench.store.keep(large) is None
            assert await bench.store.keep(PNG) == NAME
            assert await bench.store.keep(large) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    # One line: small pictures still fit, so it is neither over nor new.
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("pictures are not kept", "disk_full")
    ]
    assert bench.not_kept == {"disk_full": 2}
    assert bench.files == [bench.file(NAME)]
    assert bench.known.total == BLOCK_BYTES


async def test_a_folder_that_cannot_be_created_is_no_failure_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bench = Bench(tmp_path / "file" / "images")
    with capture_logs() as lines:
        async with bench.store as store:
            assert await store.keep(PNG) is None
            assert await store.read(NAME) is None
    assert [line["event"] for line in lines] == ["pictures are not kept"]
    assert bench.not_kept == {"folder_missing": 2}


@pytest.mark.exhaustive
async def test_many_small_files_do_not_delay_the_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "images")
    for number in range(10_000):
        name = answer_file(sha256(str(number).encode()).hexdigest(), "0" * 12)
        path = bench.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1_000)
        os.utime(path, (NOW, NOW))
    started = time.monotonic()
    async with bench.store:
        assert time.monotonic() - started < 1
        lag = 0.0
        while len(bench.known) < 10_000:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            lag = max(lag, time.monotonic() - before)
        assert lag < 1
