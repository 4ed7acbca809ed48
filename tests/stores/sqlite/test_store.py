import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import chdir, closing
from pathlib import Path
from stat import S_IMODE

import pytest

from gateway.stores.port import UnusableStore
from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite.schema import VERSION
from tests.conformance.store import images, put, spent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


async def open_and_close(path: Path) -> None:
    async with SqliteStore(path, busy_seconds=0.2):
        pass


def refusal(path: Path) -> str:
    """Return the error of a store that refuses to open."""
    with pytest.raises(UnusableStore) as refused:
        asyncio.run(open_and_close(path))
    text = str(refused.value)
    assert text.startswith(f"The database {path} cannot be used: ")
    assert "\n" not in text
    return text


def mode(path: Path) -> int:
    return S_IMODE(path.stat().st_mode)


async def test_the_files_are_for_their_owner_alone(path: Path) -> None:
    async with SqliteStore(path) as store:
        await put(store, "a", spent(1))
        modes = {file.name: mode(file) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("gateway.db", "gateway.db-wal", "gateway.db-shm"), 0o600)
    assert mode(path.parent) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["gateway.db"]


def test_a_directory_and_a_file_that_are_there_keep_their_modes(path: Path) -> None:
    path.parent.mkdir(mode=0o750)
    path.touch(mode=0o640)
    asyncio.run(open_and_close(path))
    assert (mode(path.parent), mode(path)) == (0o750, 0o640)


async def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    for turn in range(5):
        stores = [SqliteStore(tmp_path / f"{turn}.db") for _ in range(8)]
        await asyncio.gather(*(store.open() for store in stores))
        await put(stores[0], "a", spent(turn))
        assert [await images(store, "a") for store in stores] == [turn] * 8
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_path_may_be_relative_and_have_signs_of_an_address(tmp_path: Path) -> None:
    name = Path("a?mode=memory#%20 ü") / "g?.db"
    with chdir(tmp_path):
        store = SqliteStore(name)
    async with store:
        await put(store, "a", spent(3))
    async with SqliteStore(tmp_path / name) as store:
        assert await images(store, "a") == 3


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (f"PRAGMA user_version = {VERSION + 1}", f"newer gateway (schema {VERSION + 1}, this one"),
        ("PRAGMA application_id = 1", "another program's database"),
    ],
)
def test_a_database_that_is_not_ours_is_refused_and_left_alone(
    path: Path, statement: str, why: str
) -> None:
    asyncio.run(open_and_close(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    assert why in refusal(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("[teams.red]\n" * 1000)
    assert "not a SQLite database" in refusal(path)
    assert path.read_text().startswith("[teams.red]")
    assert "exists" in refusal(path / "gateway.db")
    assert "Not a directory" in refusal(path / "data" / "gateway.db")
    assert "cannot be opened" in refusal(path.parent)


# The first opening imports all modules, which the other user may not be allowed to read.
AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from gateway.stores.port import UnusableStore
from gateway.stores.sqlite import SqliteStore

async def main(path: str) -> None:
    async with SqliteStore(Path(path)):
        print("it was opened")

asyncio.run(main(sys.argv[1]))
if os.geteuid() == 0:
    os.seteuid(65534)
for path in sys.argv[2:]:
    try:
        asyncio.run(main(path))
    except UnusableStore as refused:
        print(refused)
"""


def test_a_read_only_file_or_directory_is_refused(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, missing = Path(folder) / "gateway.db", Path(folder) / "read-only" / "gateway.db"
        asyncio.run(open_and_close(path))
        path.chmod(0o444)
        missing.parent.mkdir(mode=0o555)
        Path(folder).chmod(0o755)  # all may look into it, none but an administrator may write
        refusals = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, tmp_path / "first.db", path, missing],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert "it is read-only" in refusals
    assert "Permission denied" in refusals
    assert refusals.count("it was opened") == 1  # the first
