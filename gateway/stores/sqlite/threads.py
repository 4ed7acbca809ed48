"""The threads of a store, and the decorator that runs a method in one of them.

Every operation ends within the busy time and a little more, also when the disk hangs. Work that has
begun may then still be done, as the ports say.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from gateway.stores.operations import Operations
from gateway.stores.port import Observe
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.worker import Worker

Thread = Literal["writer", "reader", "reports"]
P = ParamSpec("P")
T = TypeVar("T")

GRACE_SECONDS = 0.5
"""The time that an operation may take on top of the wait for a lock."""


class Threads:
    """One worker for each kind of work, so that none waits for another."""

    def __init__(self, database: Database, observe: Observe | None) -> None:
        self._database = database
        self.operations = Operations(f"sqlite:{database.path}", observe)
        names: tuple[Thread, ...] = ("writer", "reader", "reports")
        self._workers = {name: Worker(name, database) for name in names}

    async def run(
        self, thread: Thread, operation: str, work: Callable[[sqlite3.Connection], T]
    ) -> T:
        """Run `work` in a thread, bounded in time and observed. Raises StoreUnavailable."""
        with self.operations.observed(operation):
            async with asyncio.timeout(self._database.busy_seconds + GRACE_SECONDS):
                return await self._workers[thread].run(work)

    async def close(self) -> None:
        """Finish the work that has begun, and close the connections."""
        for worker in self._workers.values():
            await worker.close()


class SqlitePart:
    """A part of the store, whose methods run in its threads."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads


AnyPart = TypeVar("AnyPart", bound=SqlitePart)


def in_thread(
    thread: Thread, operation: str
) -> Callable[
    [Callable[Concatenate[AnyPart, sqlite3.Connection, P], T]],
    Callable[Concatenate[AnyPart, P], Coroutine[Any, Any, T]],
]:
    """Make a method that takes a connection into one that callers await.

    It runs in this thread, and is observed as this operation.
    """

    def decorate(
        method: Callable[Concatenate[AnyPart, sqlite3.Connection, P], T],
    ) -> Callable[Concatenate[AnyPart, P], Coroutine[Any, Any, T]]:
        @wraps(method)
        async def run(part: AnyPart, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await part.threads.run(
                thread, operation, lambda connection: method(part, connection, *args, **kwargs)
            )

        return run

    return decorate


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes: it takes the file's lock at its start, and commits at its end.

    Where the block raises, the worker closes the connection, which rolls back.
    """
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")
