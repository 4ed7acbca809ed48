"""A thread with a connection of its own, which runs pieces of work in order, one at a time.

- A failure costs the connection: closing it rolls back, and its state is gone. The next piece of
  work opens another, so an outage ends without anybody's help.
- A caller may be cancelled at any time. Work that has begun is finished all the same and its
  result dropped; work that has not begun is never done.
- Each piece of work first checks that the file and its log are still the ones that were opened.
  Once the log is gone, every worker closes its connection.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import structlog
from msgspec import DecodeError

from gateway.core.errors import StoreUnavailable
from gateway.stores.errors import UnusableStore
from gateway.stores.sqlite.connection import Database

T = TypeVar("T")

_FAILURES = (sqlite3.Error, OSError, DecodeError, UnusableStore)
"""Exceptions of a database file that is locked, missing, replaced, full or damaged."""


class Worker:
    """One thread and its connection, which is opened when it is first needed."""

    def __init__(self, name: str, database: Database) -> None:
        self._database = database
        place = f"sqlite:{database.path}"
        self._log = structlog.get_logger(source="store", place=place, thread=name)
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")
        self._closed = False
        self._away = False
        database.on_lost.append(self._disconnect_soon)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in the thread, after all earlier work.

        Raises StoreUnavailable for every failure of the database, with its cause.
        """
        if self._closed:
            raise StoreUnavailable
        return await self._in_thread(lambda: self._do(work))

    async def close(self) -> None:
        """Finish the work that has begun, and end the thread."""
        if not self._closed:
            self._closed = True
            try:
                await self._in_thread(self._disconnect)
            finally:
                self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _disconnect_soon(self) -> None:
        with suppress(RuntimeError):  # the thread has ended, and its connection with it
            self._thread.submit(self._disconnect)

    # -- in the thread --------------------------------------------------------------------------

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._database.check()
            if self._connection is None:
                self._connection = self._database.connect()
            result = work(self._connection)
        except _FAILURES as failure:
            self._disconnect()
            self._log_change(failure)
            raise StoreUnavailable from failure
        except BaseException:
            self._disconnect()
            raise
        self._log_change(None)
        return result

    def _log_change(self, failure: Exception | None) -> None:
        """Log the first failure of an outage, and the outage's end."""
        if failure is not None and not self._away:
            self._log.warning("the store is away", cause=str(failure))
        elif failure is None and self._away:
            self._log.info("the store is back")
        self._away = failure is not None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                self._database.close(connection)
