"""Background tasks, which no caller awaits, and buffers that write to a store in the background.
Also long work in turns, for which the event loop is too busy in one go.

The event loop keeps only a weak reference to a task, so the garbage collector can remove a task
that nothing else refers to, half done. `Background` refers to them.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog

from gateway.core.errors import StoreUnavailable

log = structlog.get_logger(source="background")

T = TypeVar("T")

FLUSH_SECONDS = 1.0

TURN_SECONDS = 0.005
"""How long all work on long lists together may take before other tasks run."""

_lists_at_work = 0


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items, and let other tasks run now and then: a long list must not hold the loop.

    Several lists at the same time share one turn.
    """
    global _lists_at_work
    _lists_at_work += 1
    try:
        until = perf_counter() + TURN_SECONDS / _lists_at_work
        for item in items:
            yield item
            if perf_counter() >= until:
                await asyncio.sleep(0)
                until = perf_counter() + TURN_SECONDS / _lists_at_work
    finally:
        _lists_at_work -= 1


class Service:
    """A part of the gateway that runs while its `async with` block does.

    If `start` fails, it is closed at once: it may have started some of its jobs.
    """

    async def start(self) -> None:
        """Open connections and start periodic jobs."""

    async def close(self) -> object:
        """End the jobs and close the connections."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()


class Background(Service):
    """A named group of tasks that are cancelled together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` as a task of this group. A failure is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def every(
        self,
        seconds: float,
        work: Callable[[], Awaitable[None]],
        *,
        survive: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        """Run `work` every `seconds`. A failed run is logged, and the next one follows as usual.

        Failures of type `survive` are expected and not logged: they are reported elsewhere.
        """

        async def repeat() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await work()
                except survive:
                    continue
                except Exception as defect:  # one failed run must not end all later ones
                    log.exception("task failed", group=self._name, exc_info=defect)

        self.spawn(repeat())

    async def close(self) -> None:
        """Cancel the tasks and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("task failed", group=self._name, exc_info=failure)


@dataclass(eq=False)
class WriteBehind(ABC, Service, Generic[T]):
    """A buffer that writes batches of type `T` to a store once a second, and the rest at the end.

    Callers add to it without waiting: a cache hit is answered in microseconds and must not wait for
    a disk. A crash loses at most the last second, so nothing that is money goes through here.

    1. While the store is unavailable, the oldest batch is kept as it is and written again first. A
       write that raised StoreUnavailable may have happened, so `write` must be idempotent.
    2. A new batch is collected only after the former one is written. A slow store may still be
       reading the former one, so `collect` returns a new object each time.
    3. A batch that the store refuses for any other reason is logged and dropped. Otherwise it
       would block all later ones.
    4. One write runs at a time, and `flush` waits for the one that runs.
    """

    name: ClassVar[str]
    _unwritten: T | None = field(default=None, init=False)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _background: Background = field(init=False)

    def __post_init__(self) -> None:
        self._background = Background(self.name)

    @abstractmethod
    def collect(self) -> T | None:
        """Take everything added since the last call, as one batch; None if there is nothing.

        The amount held meanwhile must be bounded, however long the store is unavailable.
        """

    @abstractmethod
    async def write(self, batch: T) -> None:
        """Write the batch. Writing it a second time changes nothing. Raises StoreUnavailable."""

    async def start(self) -> None:
        """Write once a second."""
        self._background.every(FLUSH_SECONDS, self.flush, survive=StoreUnavailable)

    async def close(self) -> None:
        """Write the rest, unless the store is unavailable."""
        await self._background.close()
        with suppress(StoreUnavailable):  # the outage itself is logged already
            await self.flush()

    async def flush(self) -> None:
        """Write everything added so far. Raises StoreUnavailable and keeps it for the next time."""
        async with self._writing:
            if self._unwritten is not None:
                await self._write(self._unwritten)
            self._unwritten = self.collect()
            if self._unwritten is not None:
                await self._write(self._unwritten)

    async def _write(self, batch: T) -> None:
        try:
            await self.write(batch)
        except StoreUnavailable:
            raise
        except Exception:  # a batch that can never be written must not keep out all later ones
            dropped = {"source": "write_behind", "buffer": self.name}
            log.exception("batch dropped: the store refuses it", **dropped)
        self._unwritten = None
