"""Answers on the disk: the same bytes again, without their pictures twice, and gone when purged."""

import asyncio
import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event

import pytest
from msgspec.structs import replace

from gateway.cache.codec import Seal
from gateway.cache.disk import LOOK_SECONDS, DiskCache
from gateway.cache.invalidation import Invalidation
from gateway.cache.memory import MemoryCache
from gateway.cache.tiers import TieredCache
from gateway.core.model import Bought
from gateway.images.files import THREADS
from gateway.images.store import ImageStore, answer_file
from gateway.stores.sqlite.store import SqliteStore
from gateway.tenants.changes import Actor
from gateway.tenants.operations import note_purge, purge_teams
from tests.support.answers import answer, key
from tests.support.image_store import NOW, Bench, picture
from tests.support.steps import until

PNG = picture(0)
TEXT = b64encode(PNG).decode()
SEAL = Seal(b"x" * 32)


class DiskBench(Bench):
    """A cache on the disk. `runs` are its processes, one after the other."""

    def cache(self, store: ImageStore, seal: Seal = SEAL) -> DiskCache:
        assert store.files is not None
        return DiskCache(store, store.files, seal, lambda: self.settings, lambda: self.now, self)

    @property
    def names(self) -> list[str]:
        """The endings of all files."""
        return sorted(path.suffix for path in self.files)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DiskBench]:
    bench = DiskBench(tmp_path / "images")
    async with bench.store:
        yield bench


async def kept(bench: DiskBench, *answers: Bought, ttl: float | None = 60) -> None:
    """Keep answers under their numbers, and wait until they are on the disk."""
    cache = bench.cache(bench.store)
    for number, bought in enumerate(answers):
        assert await cache.set(key(number), bought, ttl)
    await cache.close()


def body(*items: object, **fields: object) -> bytes:
    return json.dumps({"created": 1, **fields, "data": list(items)}).encode()


def images(*texts: str) -> bytes:
    return body(*({"b64_json": text, "revised_prompt": "an apple"} for text in texts))


BODIES = {
    "one picture": images(TEXT),
    "two of one": images(TEXT, TEXT),
    "two": images(TEXT, b64encode(picture(1)).decode()),
    "compact": b'{"data":[{"b64_json":"%b"}]}' % TEXT.encode(),
    "spaces": b'\n{"data" : [ {"b64_json"\t:\n"%b"}], "b64_json": 1}\n' % TEXT.encode(),
    "a URL": body({"url": "https://h/1.png"}),
    "both": body({"url": "https://h/1.png", "b64_json": TEXT}),
    "a URI": body({"url": f"data:image/png;base64,{TEXT}"}),
    "a comma": body({"url": "data:,"}, {"b64_json": TEXT}),
    "no picture": images(b64encode(b"hello").decode()),
    "URL-safe": images(urlsafe_b64encode(PNG + b"\xff\xff\xff").decode()),
    "escaped": images(TEXT).replace(b"/", b"\\/"),
    "line breaks": images(f"{TEXT[:76]}\\n{TEXT[76:]}"),
    "no padding": images(b64encode(PNG + b"\0" * (2 - len(PNG) % 3)).decode().rstrip("=")),
    "loose bits": images(b64encode(PNG + b"\0" * ((1 - len(PNG)) % 3)).decode()[:-3] + "B=="),
    "cut off": b'{"data":[{"b64_json":"%b' % TEXT.encode(),
    "not UTF-8": b'\xff{"b64_json":"%b"}\xfe' % TEXT.encode(),
}


@pytest.mark.parametrize("text", BODIES.values(), ids=BODIES)
async def test_an_answer_comes_back_byte_for_byte(bench: DiskBench, text: bytes) -> None:
    bought = replace(answer(text, at=NOW), images=3, cost=123_456)
    await kept(bench, bought)
    async with bench.another() as store:
        found = await bench.cache(store).fetch(key(0))
    assert found is not None
    assert found.bought == bought
    assert found.expires == NOW + 60
    assert bench.lookups == {"hit": 1}


async def test_a_picture_is_there_once_and_not_in_its_answers(bench: DiskBench) -> None:
    large = picture(1, padding=100_000)
    text = images(b64encode(large).decode())
    await kept(bench, answer(text, at=NOW), answer(text.replace(b"apple", b"pear"), at=NOW))
    assert bench.names == [".answer", ".answer", ".png"]
    assert sum(path.stat().st_size for path in bench.files) < len(large) + 2_000
    assert {path.stat().st_mode & 0o777 for path in bench.files} == {0o600}


async def test_an_answer_without_its_picture_is_a_miss_and_removed(bench: DiskBench) -> None:
    await kept(bench, answer(images(TEXT, b64encode(picture(1)).decode()), at=NOW))
    next(path for path in bench.files if path.suffix == ".png").unlink()
    assert await bench.cache(bench.store).fetch(key(0)) is None
    assert bench.names == [".png"]
    assert bench.lookups == {"miss": 1}


@pytest.mark.parametrize("damage", ["cut", "changed", "renamed"])
async def test_a_damaged_answer_is_a_miss_and_removed(bench: DiskBench, damage: str) -> None:
    await kept(bench, answer(images(TEXT), at=NOW))
    name = answer_file(key(0), SEAL.mark)
    file, content = bench.file(name), bench.file(name).read_bytes()
    wanted = 0
    if damage == "cut":
        bench.store.write_now(name, content[:-1])
    elif damage == "changed":
        bench.store.write_now(name, content[:-1] + b"!")
    else:
        wanted, name = 1, answer_file(key(1), SEAL.mark)
        bench.store.write_now(name, content)
        file = bench.file(name)
    assert await bench.cache(bench.store).fetch(key(wanted)) is None
    assert not file.exists()
    assert bench.evicted == {"damaged": 1}


async def test_two_stores_share_a_folder_and_leave_each_others_answers_alone(
    bench: DiskBench,
) -> None:
    theirs = bench.cache(bench.store, Seal(b"y" * 32))
    await kept(bench, answer(images(TEXT), at=NOW))
    assert await theirs.fetch(key(0)) is None
    assert await theirs.delete(key(0)) == 0
    assert await theirs.set(key(0), answer(b"theirs", at=NOW), 60)
    await theirs.close()
    for cache, body in ((theirs, b"theirs"), (bench.cache(bench.store), images(TEXT))):
        found = await cache.fetch(key(0))
        assert found is not None
        assert found.bought.body == body
    await theirs.forget({}, NOW)
    assert await theirs.clear()
    assert await theirs.fetch(key(0)) is None
    await bench.store.scan()
    assert await bench.cache(bench.store).fetch(key(0)) is not None
    assert len(bench.known) == 2
    assert bench.evicted == {}


async def test_no_answer_outlives_its_time(bench: DiskBench) -> None:
    await kept(bench, answer(images(TEXT), at=NOW), answer(at=NOW), answer(at=NOW), ttl=None)
    await kept(bench, answer(images(TEXT), at=NOW), ttl=60)
    cache = bench.cache(bench.store)
    bench.now = NOW + 59.9
    assert await cache.fetch(key(0)) is not None
    bench.now = NOW + 60
    assert await cache.fetch(key(0)) is None
    assert (await cache.fetch(key(1))) is not None
    # A shorter time in the settings counts from the purchase.
    bench.settings = replace(bench.settings, cache=replace(bench.settings.cache, ttl_seconds=50.0))
    assert await cache.fetch(key(2)) is None
    assert bench.evicted == {"expired": 2}


async def test_switched_off_it_keeps_and_finds_nothing(bench: DiskBench) -> None:
    await kept(bench, answer(at=NOW))
    cache = bench.cache(bench.store)
    bench.use(enabled=False)
    assert await cache.fetch(key(0)) is None
    assert not await cache.set(key(1), answer(at=NOW))


async def test_a_too_large_answer_is_not_kept(bench: DiskBench) -> None:
    most = bench.settings.cache.max_entry_bytes
    assert not await bench.cache(bench.store).set(key(0), answer(bytes(most + 1)))


async def test_what_waits_for_a_slow_disk_is_bounded_and_found(bench: DiskBench) -> None:
    cache, bought = bench.cache(bench.store), answer(b"x" * 60, at=NOW)
    cache.most_waiting = 100
    assert await cache.set(key(0), bought, 60)
    assert await cache.set(key(0), bought, 60)
    assert not await cache.set(key(1), bought, 60)
    assert bench.not_kept == {"busy": 1}
    found = await cache.fetch(key(0))
    assert found is not None
    assert found.bought is bought
    cache.start()
    await until(lambda: bench.names == [".answer"])
    assert await cache.set(key(1), bought, 60)
    await cache.close()


async def test_a_disk_that_hangs_is_a_miss_and_then_left_alone(bench: DiskBench) -> None:
    cache, bought, go = bench.cache(bench.store), answer(b"x", at=NOW), Event()
    await kept(bench, bought)
    hanging = [asyncio.create_task(bench.store.run(go.wait)) for _ in range(THREADS)]
    await asyncio.sleep(0)  # they begin
    try:
        began = time.monotonic()
        assert await cache.fetch(key(0)) is None
        waited = time.monotonic() - began
        assert waited >= LOOK_SECONDS * 0.9
        assert await cache.fetch(key(0)) is None
        assert time.monotonic() - began - waited < LOOK_SECONDS / 2
    finally:
        go.set()
        await asyncio.gather(*hanging)


async def test_without_a_thread_for_it_an_answer_is_a_miss(bench: DiskBench) -> None:
    cache = bench.cache(bench.store)
    await kept(bench, answer(b"x", at=NOW))
    assert await cache.fetch(key(0)) is not None
    await bench.store.close()  # from now on its pool raises RuntimeError, as without a thread
    assert await cache.fetch(key(0)) is None
    assert await cache.set(key(1), answer(b"y", at=NOW), 60)
    await cache.close()
    assert bench.not_kept == {"busy": 1}


# -- purges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["delete", "clear"])
async def test_a_purged_answer_is_gone_wherever_it_is(bench: DiskBench, way: str) -> None:
    await kept(bench, answer(images(TEXT), at=NOW))
    cache = bench.cache(bench.store)
    cache.start()
    await cache.set(key(1), answer(images(TEXT), at=NOW))
    if way == "delete":
        assert [await cache.delete(key(number)) for number in range(3)] == [1, 1, 0]
    else:
        assert await cache.clear()
    await cache.close()
    assert [await cache.fetch(key(number)) for number in range(2)] == [None, None]
    assert bench.names in ([], [".png"])


async def test_a_purge_on_another_gateway_or_before_a_restart_removes_what_is_older(
    bench: DiskBench, tmp_path: Path
) -> None:
    async with SqliteStore(tmp_path / "gateway.db") as store:

        async def purge(name: str | None) -> None:
            by = Actor("somebody", bench.now)
            if name is None:
                await purge_teams(store.directory, None, by)
            else:
                await note_purge(store.directory, name, by)

        async def follow() -> list[bool]:
            """What a gateway finds that starts now."""
            cache = bench.cache(bench.store)
            memory = MemoryCache(2**20, 2**20)
            generation = (await store.directory.changes(0)).generation
            await Invalidation(
                store.audit,
                memory,
                cache,
                lambda: bench.settings,
                lambda: generation,
                lambda: bench.now,
            ).check()
            tiers = TieredCache(memory, cache, lambda: bench.now)
            return [await tiers.get(key(number)) is not None for number in range(3)]

        await kept(bench, *(answer(images(TEXT), at=NOW) for _ in range(3)), ttl=10_000)
        bench.now += 1
        await purge(key(1))
        bench.now += 1
        assert await follow() == [True, False, True]
        await kept(bench, answer(images(TEXT), at=bench.now), ttl=10_000)
        bench.now += 100  # the others are used after the purge, and leave nevertheless
        await follow()
        await purge(None)
        bench.now += 100
        cache = bench.cache(bench.store)
        await cache.set(key(1), answer(images(TEXT), at=bench.now), 10_000)
        await cache.close()
        assert await follow() == [False, True, False]
