"""The start upgrades databases of older gateways and keeps all their data."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.stores.port import UnusableStore
from gateway.stores.sqlite import SqliteStore, schema
from tests.conformance.test_directory import BLUE, OTHER
from tests.stores.test_codec import ACCOUNT
from tests.support.states import KEY, RED

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that a gateway with schema 1 left."""
    path = tmp_path / "gateway.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_1.read_text(encoding="utf-8"))
    return path


def tables(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of every table, the schema version and the application id."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
        found = {
            name: list(connection.execute(f"PRAGMA table_xinfo('{name}')")) for (name,) in names
        }
        for pragma in ("user_version", "application_id"):
            found[pragma] = list(connection.execute(f"PRAGMA {pragma}"))
        return found


async def test_everything_in_it_is_kept(path: Path) -> None:
    async with SqliteStore(path) as store:
        found = await store.directory.changes(0)
        red = replace(RED, limits=replace(RED.limits, cost_per_month=2**53 + 1))
        assert sorted(found.teams, key=lambda team: team.name) == [BLUE, red]
        assert found.keys == [KEY, replace(OTHER, state="revoked")]
        assert (await store.accounts.load(["team:red"])).accounts == [(ACCOUNT, 1)]
        (row,) = await store.usage.report(["team", "key"], None, None)
        assert (row.group, row.requests, row.cost) == (("red", "k1"), 1, 5)
        assert await store.check_value("pepper", b"\0right")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("usage_hours", "usage_days", "usage_totals"):
            assert connection.execute(f"SELECT requests, cost FROM {table}").fetchall() == [(1, 5)]


async def test_it_comes_to_the_same_tables_as_a_new_one(path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for file in (path, new, path):
        async with SqliteStore(file):
            pass
    assert tables(path) == tables(new)
    assert tables(path)["user_version"] == [(schema.VERSION,)]


def test_one_that_cannot_be_brought_up_to_date_is_left_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE keys ADD COLUMN grace_ends")
    before = tables(path)

    async def open_and_close() -> None:
        async with SqliteStore(path):
            pass

    with pytest.raises(UnusableStore, match="duplicate column"):
        asyncio.run(open_and_close())
    assert tables(path) == before
