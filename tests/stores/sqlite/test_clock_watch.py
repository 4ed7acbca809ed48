"""A wall clock that is far behind what the store has seen is told, with what to do about it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from structlog.testing import capture_logs

from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite.clock_watch import BEHIND_SECONDS
from tests.conformance.store import NOON, Wall, put, spent

YEAR_2100 = 4_102_444_800.0
EVENT = "this machine's clock is behind the store's, so budgets do not begin anew"


async def told(store: SqliteStore) -> list[str]:
    """The dates in the lines about the clock that two readings bring about."""
    with capture_logs() as lines:
        for _ in range(2):
            await store.accounts.load(["a"])
    found = [line for line in lines if line["event"] == EVENT]
    assert all(line["log_level"] == "error" for line in found)
    return [f"{line['wall_clock']} {line['store_clock']}" for line in found]


async def test_a_start_behind_what_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with SqliteStore(path, wall=Wall(YEAR_2100)) as store:
        await put(store, "a", spent(1))
    async with SqliteStore(path, wall=Wall(NOON)) as store:
        (line,) = await told(store)
        assert line.startswith("2026-03-01T12:00:00+00:00 2100-01-01T00:00:00")
        assert await told(store) == []


async def test_a_clock_that_is_set_right_while_it_runs(tmp_path: Path) -> None:
    wall = Wall(NOON)
    async with SqliteStore(tmp_path / "gateway.db", wall=wall) as store:
        assert await told(store) == []
        wall.now = NOON + BEHIND_SECONDS + 60
        assert await told(store) == []
        wall.now = NOON
        assert len(await told(store)) == 1
        wall.now = NOON + BEHIND_SECONDS
        assert await told(store) == []
        wall.now = NOON
        assert len(await told(store)) == 1


async def test_an_hour_is_nothing_to_tell(tmp_path: Path) -> None:
    wall = Wall(NOON)
    async with SqliteStore(tmp_path / "gateway.db", wall=wall) as store:
        await store.accounts.load(["a"])
        wall.now -= 3_600
        assert await told(store) == []


async def test_what_it_advises_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    async with SqliteStore(path, wall=Wall(YEAR_2100)) as store:
        await put(store, "a", spent(1))
    async with SqliteStore(path, wall=Wall(NOON)) as store:
        with capture_logs() as lines:
            await store.accounts.load(["a"])
    (line,) = lines
    _, statements, _ = line["mend"].split('"')
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    async with SqliteStore(path, wall=Wall(NOON)) as store:
        loaded = await store.accounts.load(["a"])
        assert NOON <= loaded.now < NOON + 60
        assert loaded.accounts[0][1] == 0
        assert await told(store) == []
