"""The -wal and -shm files, deleted or replaced under a store that is open."""

import asyncio
import multiprocessing
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.stores.sqlite import SqliteStore
from tests.conformance.store import images, put, refused, spent

SPAWN = multiprocessing.get_context("spawn")
SUFFIXES = ("-wal", "-shm")


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def delete_log(path: Path) -> None:
    for suffix in SUFFIXES:
        beside(path, suffix).unlink()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_without_its_log_nothing_is_read_or_written(
    path: Path, suffix: str, how: str
) -> None:
    async with SqliteStore(path) as store:
        await put(store, "a", spent(5))
        file = beside(path, suffix)
        content = file.read_bytes()
        file.unlink()
        if how == "replaced":
            file.write_bytes(content)
        why = await refused(store)
        assert "deleted or replaced" in why
        assert "start the gateway" in why
    async with SqliteStore(path) as store:
        assert await images(store, "a") == 5


async def test_the_log_of_a_linked_database_is_found_and_missed(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    async with SqliteStore(path) as store:
        await put(store, "a", spent(5))
        link.symlink_to(path)
        async with SqliteStore(link) as linked:
            assert await images(linked, "a") == 5
            await put(linked, "b", spent(7))
            delete_log(path)
            assert "deleted or replaced" in await refused(linked)
            assert "deleted or replaced" in await refused(store)
    async with SqliteStore(link) as store:
        assert await images(store, "b") == 7


async def test_a_link_to_another_database_is_an_outage(path: Path, tmp_path: Path) -> None:
    other, link = tmp_path / "other.db", tmp_path / "link.db"
    for file in (path, other):
        async with SqliteStore(file) as store:
            await put(store, "a", spent(5))
    link.symlink_to(path)
    async with SqliteStore(link) as store:
        assert await images(store, "a") == 5
        link.unlink()
        link.symlink_to(other)
        assert "the file was replaced" in await refused(store)


def buy(path: Path, theirs: Connection) -> None:
    """Run a program that opens a store, and reads from it at each command."""

    async def work() -> None:
        async with SqliteStore(path) as store:
            await put(store, "a", spent(5))
            theirs.send("written")
            while await asyncio.to_thread(theirs.recv) == "look":
                try:
                    theirs.send(str(await images(store, "a")))
                except StoreUnavailable as failure:
                    theirs.send(str(failure.__cause__))

    asyncio.run(work())


def test_writes_survive_a_deleted_log_and_a_kill(path: Path) -> None:
    ours, theirs = SPAWN.Pipe()
    program = SPAWN.Process(target=buy, args=(path, theirs), daemon=True)
    program.start()
    assert ours.recv() == "written"
    delete_log(path)
    ours.send("look")
    assert "deleted or replaced" in ours.recv()
    program.kill()
    program.join(30)

    async def found() -> int:
        async with SqliteStore(path) as store:
            return await images(store, "a")

    assert asyncio.run(found()) == 5


async def test_two_stores_both_save_their_writes(path: Path) -> None:
    async with SqliteStore(path) as one, SqliteStore(path) as two:
        await put(one, "a", spent(5))
        await put(two, "b", spent(7))
        delete_log(path)
        assert "deleted or replaced" in await refused(one)
        assert "deleted or replaced" in await refused(two)
    async with SqliteStore(path) as again:
        assert (await images(again, "a"), await images(again, "b")) == (5, 7)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
