"""Tasks that nobody awaits, held so that they are neither collected nor forgotten.

The event loop keeps only a weak reference to a task: one that nobody holds can vanish half done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(source="background")


class Background:
    """A group of tasks that end together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run `work` as a task of this group. Its failure is logged, never lost."""
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
        """Run `work` again and again, `seconds` apart. What fails is logged and tried next time.

        Failures of type `survive` are expected, and told by others.
        """

        async def repeat() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    await work()
                except survive:
                    continue
                except Exception as defect:  # one bad turn must not end all later ones
                    log.exception("task failed", group=self._name, exc_info=defect)

        self.spawn(repeat())

    async def close(self) -> None:
        """Cancel what still runs and wait until all has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("task failed", group=self._name, exc_info=failure)
