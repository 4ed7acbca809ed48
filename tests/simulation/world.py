"""Processes in one event loop under a virtual clock: they pause like SIGSTOP and die like kill -9.

`looptime` moves the clock to the next timer instead of waiting. Each callback belongs to the
process that scheduled it, which a context variable names. The callbacks of a paused process wait
until it continues; those of a dead process never run. Callbacks without a process belong to the
world outside: the network, the store, the upstream and the clients.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

import looptime

T = TypeVar("T")

OUTSIDE = Context()
"""The context of callbacks that belong to no process."""

_process: ContextVar["Process | None"] = ContextVar("process", default=None)


class Died(Exception):
    """The process died, so its connections are cut."""


class World(looptime.LoopTimeEventLoop, asyncio.SelectorEventLoop):
    """The event loop. `time()` is in seconds since its beginning."""

    def __init__(self) -> None:
        super().__init__(start=0.0, noop_cycles=0)
        self._tasks: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]  # its options are open

    def call_soon(  # type: ignore[override]  # typeshed ties the arguments to the callback
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self.is_closed():  # a coroutine that is destroyed cleans up
            return asyncio.Handle(callback, args, self)
        gate = _Gate(callback, context or copy_context(), is_timer=False)
        gate.handle = super().call_soon(gate, *args, context=gate.context)
        return gate.handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        gate = _Gate(callback, context or copy_context(), is_timer=True)
        gate.handle = handle = super().call_at(when, gate, *args, context=gate.context)
        return handle

    def outside(self, seconds: float, callback: Callable[[], object]) -> None:
        """Call back after so many seconds, outside of all processes."""
        self.call_later(seconds, callback, context=OUTSIDE)

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        task = asyncio.Task(work, loop=loop, **options)
        # A reference to each: the garbage collector would run the `finally` blocks of a process
        # that died, which kill -9 does not.
        self._tasks.append(task)
        return task

    def destroy(self) -> None:
        """Close the loop, and all tasks that a dead or paused process left, without a trace."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
            elif not task.cancelled():
                task.exception()
        self._tasks.clear()
        self.close()


class Process:
    """A process in the world. Its code runs in tasks that `start` begins."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.is_dead = False
        self._world = world
        self._held: list[tuple[_Gate, tuple[Any, ...]]] | None = None
        self._context = copy_context()
        self._context.run(_process.set, self)
        self._died: asyncio.Future[None] = world.create_future()

    @property
    def is_paused(self) -> bool:
        return self._held is not None

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task of this process."""
        return self._world.create_task(work, context=self._context.copy())

    async def reply(self, task: asyncio.Task[T]) -> T:
        """Wait from outside for a task of this process. Raises Died if the process dies first."""
        ends: list[asyncio.Future[Any]] = [task, self._died]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Died
        return task.result()

    def pause(self) -> None:
        if self._held is None:
            self._held = []

    def resume(self) -> None:
        held, self._held = self._held or [], None
        # Timers that are due run before what woke up with them, as in a real event loop.
        for gate, args in sorted(held, key=lambda item: not item[0].is_timer):
            gate.handle = self._world.call_soon(gate.late, *args, context=gate.context)

    def kill(self) -> None:
        self.is_dead = True
        if not self._died.done():
            self._died.set_result(None)


class _Gate:
    """A callback that runs only while its process does."""

    __slots__ = ("_before", "callback", "context", "handle", "is_timer")

    handle: asyncio.Handle

    def __init__(self, callback: Callable[..., Any], context: Context, *, is_timer: bool) -> None:
        self.callback = callback
        self.context = context
        self.is_timer = is_timer

    def __call__(self, *args: Any) -> None:
        process = self.context.get(_process)
        if process is None:
            self.callback(*args)
        elif process.is_dead:
            return
        elif process._held is not None:
            self._before = self.handle
            process._held.append((self, args))
        else:
            self.callback(*args)

    def late(self, *args: Any) -> None:
        """Run after a pause, unless it was cancelled since it was due."""
        if not self._before.cancelled():
            self.callback(*args)
