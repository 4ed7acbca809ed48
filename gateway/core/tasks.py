"""Background tasks: tasks that no caller awaits.

The event loop keeps only a weak reference to a task, so the garbage collector can remove a task
that nothing else refers to, half done. `Background` refers to them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

import structlog

log = structlog.get_logger(source="background")


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
