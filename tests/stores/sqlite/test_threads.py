import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event, get_ident

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.store import make_ready
from gateway.stores.sqlite.threads import Worker


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(tmp_path / "gateway.db", 0.1)
    make_ready(database)
    return database


@pytest.fixture
async def worker(database: Database) -> AsyncIterator[Worker]:
    worker = Worker("test", database)
    yield worker
    await worker.close()


def add_team(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO teams VALUES ('red', 1, '{}')")


def count_teams(connection: sqlite3.Connection) -> int:
    ((count,),) = connection.execute("SELECT count(*) FROM teams")
    return int(count)


async def test_every_commit_reaches_the_disk(worker: Worker) -> None:
    def settings(connection: sqlite3.Connection) -> list[str | int]:
        pragmas = ("journal_mode", "synchronous")
        return [connection.execute(f"PRAGMA {pragma}").fetchone()[0] for pragma in pragmas]

    assert await worker.run(settings) == ["wal", 2]


async def test_work_is_done_in_one_other_thread_with_one_connection(worker: Worker) -> None:
    seen = {await worker.run(lambda connection: (get_ident(), id(connection))) for _ in range(3)}
    assert len(seen) == 1
    assert seen.pop()[0] != get_ident()


async def test_work_that_has_begun_is_finished_although_its_caller_left(worker: Worker) -> None:
    begun, go_on = Event(), Event()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        begun.set()
        go_on.wait(10)
        add_team(connection)
        connection.execute("COMMIT")

    running = asyncio.create_task(worker.run(slow))
    waiting = asyncio.create_task(worker.run(add_team))
    await asyncio.to_thread(begun.wait, 10)
    for task in (running, waiting):
        task.cancel()
    await asyncio.wait([running, waiting])
    go_on.set()
    assert await worker.run(count_teams) == 1


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(sqlite3.OperationalError("locked"), StoreUnavailable), (LookupError("no"), LookupError)],
)
async def test_a_failure_rolls_back_and_the_next_work_has_a_new_connection(
    worker: Worker, failure: Exception, raised: type[Exception]
) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        add_team(connection)
        raise failure

    with pytest.raises(raised) as found:
        await worker.run(fail)
    assert failure in (found.value, found.value.__cause__)
    assert await worker.run(count_teams) == 0


async def test_closing_finishes_running_work_and_refuses_later_work(worker: Worker) -> None:
    last = asyncio.create_task(worker.run(add_team))
    await asyncio.sleep(0)
    await worker.close()
    await worker.close()
    assert last.done()
    assert last.exception() is None
    with pytest.raises(StoreUnavailable):
        await worker.run(count_teams)
