"""Single flight: identical work that is under way is shared, not started again.

A flight runs in a task of its own, which no client owns. The races it guards against:

1. *Two identical requests at the same moment.* `lead_or_join` looks up and registers without
   awaiting anything in between, so there is always exactly one leader.
2. *The leader's client hangs up.* Only its wait ends: the flight goes on, its result is kept, and
   the followers get it.
3. *The flight fails.* The failure is raised to all who wait at that time, and to nobody later: a
   flight that has ended cannot be joined, even in the moment before it is removed.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from gateway.core.errors import Draining

T = TypeVar("T")


class Flight(Generic[T]):
    """One caller's share in work that is under way. `led`: this caller started it."""

    def __init__(self, task: asyncio.Task[T], led: bool) -> None:
        self._task = task
        self.led = led

    async def result(self) -> T:
        """Wait for the work, and return its result or raise its failure.

        A cancelled wait leaves the work running. Raises Draining if the work itself was cancelled.
        """
        await asyncio.wait([self._task])
        if self._task.cancelled():
            raise Draining
        failure = self._task.exception()
        if failure is not None:
            # The same failure is raised to many callers, and each would add to its traceback.
            raise failure.with_traceback(None)
        return self._task.result()


class Flights(Generic[T]):
    """The flights of this process."""

    def __init__(self) -> None:
        self._named: dict[str, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def under_way(self, name: str) -> bool:
        """Return whether a flight of this name can be joined."""
        task = self._named.get(name)
        return task is not None and not task.done()

    def lead_or_join(
        self, name: str | None, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> Flight[T]:
        """Join the flight of this name, or start one with `work`; without a name, always start."""
        if name is not None and self.under_way(name):
            return Flight(self._named[name], led=False)
        task = asyncio.create_task(work())
        self._tasks.add(task)
        if name is not None:
            self._named[name] = task
        task.add_done_callback(lambda ended: self._land(name, ended))
        return Flight(task, led=True)

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for all flights, then cancel the rest and wait for them."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _land(self, name: str | None, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if name is not None and self._named.get(name) is task:
            del self._named[name]
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the client may have left
