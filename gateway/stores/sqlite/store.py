"""The SQLite store: the parts of one database file, and the threads that they run in.

One thread writes, one reads accounts and the directory, one makes reports, so that a long report
delays no purchase. With the write-ahead log readers see everything committed and never wait for a
writer, not even for one in another process.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gateway.stores.port import Observe, Store
from gateway.stores.sqlite import directory
from gateway.stores.sqlite.accounts import SqliteAccounts
from gateway.stores.sqlite.archive import SqliteArchive
from gateway.stores.sqlite.claims import SqliteClaims
from gateway.stores.sqlite.clock import StoreClock
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.history import SqliteHistory
from gateway.stores.sqlite.opening import make_ready
from gateway.stores.sqlite.threads import Threads
from gateway.stores.sqlite.usage import SqliteUsage


class SqliteStore(Store):
    """The store in the file `path`.

    `wall` and `monotonic` are the clocks. `busy_seconds` bounds the wait for another process'
    lock.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        busy_seconds: float = 2.0,
        observe: Observe | None = None,
    ) -> None:
        clock = StoreClock(wall, monotonic)
        self._database = Database(path.absolute(), busy_seconds)
        self._threads = threads = Threads(self._database, observe)
        self.accounts = SqliteAccounts(threads, clock)
        self.directory = directory.SqliteDirectory(threads)
        self.usage = SqliteUsage(threads)
        self.audit = directory.SqliteAudit(threads)
        self.claims = SqliteClaims(threads, clock)
        self.history = SqliteHistory(threads)
        self.archive = SqliteArchive(self._database)

    async def open(self) -> None:
        await asyncio.to_thread(make_ready, self._database)

    async def close(self) -> None:
        await self._threads.close()

    async def check_value(self, name: str, value: bytes) -> bool:
        work = partial(directory.check_value, name=name, value=value)
        return await self._threads.run("writer", "check_value", work)

    async def confirm_reset(self) -> bool:
        return False  # a file that was lost is an outage: no other file ever takes its place
