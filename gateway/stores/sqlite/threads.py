"""The threads of a store, each with its own connection, and a decorator that uses them.

A thread runs pieces of work in order, one at a time.

- A failure costs the connection: closing it rolls back, and its state is gone. The next piece of
  work opens another, so an outage ends without an operator.
- A caller may be cancelled at any time. Work that has begun is finished all the same and its
  result dropped; work that has not begun is never done.
- Each piece of work first checks that the file and its log are still the ones that were opened.
  Once the log is gone, every worker closes its connection.
- Every operation of the store ends within the busy time and a little more, also when the disk
  hangs. Work that has begun may then still be done, as the ports say.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import wraps
from sqlite3 import Connection
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args

import structlog
from msgspec import DecodeError

from gateway.core.deadline import Deadline
from gateway.core.errors import StoreUnavailable
from gateway.stores.operations import Operations
from gateway.stores.port import Observe, UnusableStore
from gateway.stores.sqlite.connection import Database, cause_of

P = ParamSpec("P")
T = TypeVar("T")

Thread = Literal["writer", "reader", "reports"]
Work = Callable[Concatenate[Any, Connection, P], T]
"""A method that takes a connection."""

Operation = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]
"""The method that its callers await."""

GRACE_SECONDS = 0.5
"""The time that an operation may take on top of the wait for a lock."""

_FAILURES = (sqlite3.Error, OSError, DecodeError, UnusableStore)
"""Exceptions of a database file that is locked, missing, replaced, full or damaged."""


class Worker:
    """One thread and its connection, which is opened when it is first needed."""

    def __init__(self, name: str, database: Database) -> None:
        self._database = database
        place = f"sqlite:{database.path}"
        self._log = structlog.get_logger(source="store", place=place, thread=name)
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"store-{name}")
        self._closed = False
        self._away = False
        database.on_lost.append(self._disconnect_soon)

    async def run(self, work: Callable[[Connection], T]) -> T:
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

    def _do(self, work: Callable[[Connection], T]) -> T:
        try:
            self._database.check()
            if self._connection is None:
                self._connection = self._database.connect()
            result = work(self._connection)
        except BaseException as failure:
            self._disconnect()
            if not isinstance(failure, _FAILURES):
                raise
            self._log_change(failure)
            raise StoreUnavailable(cause_of(failure)) from failure
        self._log_change(None)
        return result

    def _log_change(self, failure: Exception | None) -> None:
        """Log the first failure of an outage, and the outage's end."""
        if failure is not None and not self._away:
            self._log.warning("the store does not answer", cause=str(failure))
        elif failure is None and self._away:
            self._log.info("the store answers again")
        self._away = failure is not None

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                self._database.close(connection)


class Threads:
    """One worker for each kind of work, so that none waits for another."""

    def __init__(self, database: Database, observe: Observe | None) -> None:
        self._database = database
        self.operations = Operations(f"sqlite:{database.path}", observe)
        self._workers = {name: Worker(name, database) for name in get_args(Thread)}

    async def run(self, thread: Thread, operation: str, work: Callable[[Connection], T]) -> T:
        """Run `work` in a thread, bounded in time and observed. Raises StoreUnavailable."""
        with self.operations.observed(operation):
            async with Deadline(self._database.busy_seconds + GRACE_SECONDS):
                return await self._workers[thread].run(work)

    async def close(self) -> None:
        """Finish the work that has begun, and close the connections."""
        for worker in self._workers.values():
            await worker.close()


class SqlitePart:
    """A part of the store, whose methods run in its threads."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads


def in_thread(thread: Thread, operation: str) -> Callable[[Work[P, T]], Operation[P, T]]:
    """Make a part's method that takes a connection into one that callers await.

    It runs in this thread, and is observed as this operation.
    """

    def decorate(method: Work[P, T]) -> Operation[P, T]:
        @wraps(method)
        async def run(part: SqlitePart, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await part.threads.run(
                thread, operation, lambda connection: method(part, connection, *args, **kwargs)
            )

        return run

    return decorate


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A transaction that writes: it takes the file's lock at its start, and commits at its end.

    Where the block raises, the worker closes the connection, which rolls back.
    """
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")
