"""How long SQLite keeps errors and the numbers of batches."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.reporting.request_lines import TeamErrors
from gateway.stores.port import Store
from tests.conformance.store import NOON
from tests.conformance.test_history import KIND, add


async def test_errors_and_writers_are_forgotten(store: Store, path: Path) -> None:
    await add(store, 1, errors=[TeamErrors("red", KIND)])
    await store.history.forget(NOON + 90 * DAY_SECONDS)
    assert await store.history.errors(NOON, NOON + 1) == [KIND]
    await store.history.forget(NOON + 90 * DAY_SECONDS + HOUR_SECONDS)
    assert await store.history.errors(NOON, NOON + 1) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM activity_writers").fetchone() == (0,)
