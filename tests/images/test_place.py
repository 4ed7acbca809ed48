"""What a folder and a bucket do alike: pictures are kept once, found again and checked."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.images.picture import name_of
from tests.support.bucket import BucketServer
from tests.support.image_store import Bench, BucketBench, picture

PNG = picture(0)
NAME = name_of(PNG) or ""


@pytest.fixture(params=["folder", "bucket"])
def server(request: pytest.FixtureRequest) -> BucketServer | None:
    """The server of buckets, if pictures are in one."""
    if request.param == "folder":
        return None
    running: BucketServer = request.getfixturevalue("bucket_server")
    return running


@pytest.fixture
async def unopened(server: BucketServer | None, tmp_path: Path) -> Bench:
    if server is None:
        return Bench(tmp_path / "images")
    return BucketBench(server, await server.new_bucket())


@pytest.fixture
async def bench(unopened: Bench) -> AsyncIterator[Bench]:
    async with unopened.store:
        yield unopened


async def test_a_picture_is_kept_and_found(bench: Bench) -> None:
    assert not await bench.store.has(NAME)
    assert await bench.store.size(NAME) is None
    assert await bench.store.read(NAME) is None
    for _ in range(2):
        assert await bench.store.keep(PNG) == NAME
    assert await bench.store.has(NAME)
    assert await bench.store.size(NAME) == len(PNG)
    assert await bench.store.read(NAME) == PNG
    assert await bench.content(NAME) == PNG
    assert bench.not_kept == {}


async def test_another_gateway_finds_it(bench: Bench) -> None:
    await bench.store.keep(PNG)
    async with bench.another() as other:
        assert await other.has(NAME)
        assert await other.size(NAME) == len(PNG)
        assert await other.read(NAME, 3, 5) == PNG[3:8]


async def test_what_is_no_picture_is_not_kept(bench: Bench) -> None:
    assert await bench.store.keep(b"<html>") is None
    assert bench.not_kept == {"no_picture": 1}


@pytest.mark.parametrize("name", ["", "../gateway.db", f"../{NAME}", NAME.upper(), "/etc/passwd"])
async def test_no_other_name_is_looked_for(bench: Bench, name: str) -> None:
    await bench.store.keep(PNG)
    assert await bench.store.read(name) is None
    assert await bench.store.size(name) is None
    assert not await bench.store.has(name)


@pytest.mark.parametrize("padding", [0, 3_000_000])
async def test_every_part_of_it_can_be_read(bench: Bench, padding: int) -> None:
    data = picture(1, padding)
    name = await bench.store.keep(data)
    assert name is not None
    end = len(data)
    parts = ((0, -1), (3, 5), (0, end), (end - 4, 9), (end // 2, end // 3), (7, -1), (3, 0))
    for _ in range(2):  # the second time, the bytes have been checked
        for start, length in parts:
            wanted = data[start:] if length < 0 else data[start : start + length]
            assert await bench.store.read(name, start, length) == wanted
    async with bench.another() as other:  # which has checked nothing
        assert await other.read(name, end // 2, end // 3) == data[end // 2 : end // 2 + end // 3]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("damage", [PNG[:-1], b"", bytes(len(PNG)), PNG + b"\0", picture(1)])
async def test_damaged_bytes_are_a_miss_and_removed(
    bench: Bench, damage: bytes, is_known: bool
) -> None:
    await bench.store.keep(PNG)
    if is_known:
        assert await bench.store.read(NAME) == PNG
    bench.now += 1
    await bench.overwrite(NAME, damage)
    assert await bench.store.read(NAME, 3, 5) is None
    assert await bench.content(NAME) is None
    assert not await bench.store.has(NAME)
    assert await bench.store.keep(PNG) == NAME
    assert await bench.store.read(NAME, 3, 5) == PNG[3:8]


async def test_a_lost_picture_is_kept_again(bench: Bench) -> None:
    await bench.store.keep(PNG)
    assert await bench.store.read(NAME) == PNG
    await bench.lose(NAME)
    assert await bench.store.read(NAME, 3, 5) is None
    assert await bench.store.size(NAME) is None
    assert not await bench.store.has(NAME)
    assert await bench.store.keep(PNG) == NAME
    assert await bench.store.read(NAME) == PNG


async def test_no_link_is_made_to_a_picture_that_may_leave_before_its_end(bench: Bench) -> None:
    bench.use(ttl_seconds=5.0, link_seconds=1_000.0)
    await bench.store.keep(PNG)
    async with bench.another() as other:
        bench.now += 900
        assert await other.has(NAME)
    bench.now += bench.store.life + 1
    assert not await bench.store.has(NAME)


async def test_switched_off_it_keeps_and_serves_nothing(unopened: Bench) -> None:
    bench = unopened
    bench.use(enabled=False)
    async with bench.store as store:
        assert await store.keep(PNG) is None
        bench.use(enabled=True)
        assert await store.keep(PNG) == NAME
        bench.use(enabled=False)
        assert await store.read(NAME) is None
        assert await store.size(NAME) is None
        assert not await store.has(NAME)
    assert bench.not_kept == {}
