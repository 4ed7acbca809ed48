"""Calls to the server, each bounded in time, with its failures translated and its epoch checked.

- A caller waits at most PATIENCE_SECONDS in total: for a free connection, for connecting, for the
  reply. A call that was sent by then may still be done, as the ports say.
- A call that has begun has a task of its own, is never cancelled, and ends within a bound of its
  own. So no reply is left on a connection that another call uses next, and a caller that leaves
  costs no connection. (redis-py closes the connection of a cancelled call.)
- A call that still waits for a connection when its caller leaves is never sent.
- Where a server refuses a script because it is not the primary, or lacks replicas, the script has
  not run: it is sent once more, on a connection to the primary as of now. After any failure of
  a connection the idle ones are closed, so that the next call looks for the primary too.
- A server in another epoch has lost its data. It is refused until an operator confirms that.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from gateway.config.store_url import StoreUrl
from gateway.core.deadline import Deadline
from gateway.core.errors import StoreLost, StoreUnavailable
from gateway.stores.operations import Operations
from gateway.stores.port import Observe
from gateway.stores.redis.client import close_client, close_idle, follow_primary, open_primary
from gateway.stores.redis.names import META
from gateway.stores.redis.scripts import WROTE, Argument, NotReplicated, Script, script

P = ParamSpec("P")
T = TypeVar("T")

Method = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]

CONNECTIONS = 8
"""To each server. The ledger uses one at a time, and everything else shares the others."""

PATIENCE_SECONDS = 2.0
"""Bounds a call, including the wait for a connection."""

CALL_SECONDS = 1.0
"""How long a call that has begun may take, connecting included."""

CALM_SECONDS = 5.0
"""How long a server that was full must have taken all writes for that to be logged. At the edge it
takes some and refuses others."""

MICROSECONDS = 1_000_000
"""In a second: the server's clock counts microseconds."""

FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
"""Exceptions of redis-py for a server that is away, full, loading, demoted or broken.

uvloop raises RuntimeError for a write to a connection that was lost a moment ago.
"""

_CAUSES: dict[type[Exception], str] = {
    OutOfMemoryError: "its memory is full",
    NotReplicated: "too few of its replicas acknowledge purchases",
    ReadOnlyError: "it is a read-only replica",
    BusyLoadingError: "it is loading its data",
    AuthenticationError: "it refuses the user or password",
    NoPermissionError: "its user lacks permissions",
    ClusterDownError: "its cluster is not complete",
    ConnectionError: "it cannot be reached",
    OSError: "it cannot be reached",
    RuntimeError: "it cannot be reached",
}
_LACKS_REPLICAS = "NOREPLICAS"
_CODES = {
    _LACKS_REPLICAS: "too few of its replicas are connected",
    "MISCONF": "it cannot write to its disk",
}
_NOT_PRIMARY = (ReadOnlyError, MovedError, AskError, ClusterDownError)

_LOST = "EPOCH lost"
_CONFIRMED = "EPOCH confirmed "


class RedisPart:
    """A part of the store, whose methods call the server through its link."""

    def __init__(self, link: "Link") -> None:
        self.link = link


def operation(name: str) -> Callable[[Method[P, T]], Method[P, T]]:
    """Observe a part's method as this operation: see `Operations.observed`."""

    def decorate(method: Method[P, T]) -> Method[P, T]:
        @wraps(method)
        async def observed(part: RedisPart, /, *args: P.args, **kwargs: P.kwargs) -> T:
            with part.link.operations.observed(name):
                return await method(part, *args, **kwargs)

        return observed

    return decorate


class Link:
    """Calls to one store's server. `epoch` is the one that this gateway accepts, "" before `open`.

    `wait_replicas` replicas must acknowledge what a replicated call writes.

    As "pool_wait", `observe` receives how long each call waited for one of the connections.
    """

    def __init__(self, place: StoreUrl, observe: Observe | None, wait_replicas: int = 0) -> None:
        self.wait_replicas = wait_replicas
        self.epoch = ""
        self.place = place.shown
        self.operations = Operations(self.place, observe)
        self._log = structlog.get_logger(source="store", place=self.place)
        self._client = open_primary(place, connections=CONNECTIONS, retries=0)
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._away = False
        self._lost = False
        self._refused_at = 0.0

    async def call(
        self,
        name: str,
        keys: Sequence[str],
        *arguments: Argument,
        allow_oom: bool = False,
        replicated: bool = False,
    ) -> Any:
        """Run a script that checks the epoch: see `gateway.stores.redis.scripts.script`.

        Its first key is `meta`, its first argument the epoch; these come after them. With
        `replicated`, what it writes must reach the replicas. Raises StoreUnavailable with its
        cause.
        """
        called = script(name, allow_oom=allow_oom)
        replicas = self.wait_replicas if replicated else 0
        try:
            reply = await self._in_epoch(called, keys, arguments, replicas)
        except FAILURES as failure:
            self._log_change(failure)
            raise (StoreLost() if self._lost else StoreUnavailable(_cause(failure))) from failure
        self._log_change(None)
        wrote = not called.allows_oom and replicas == self.wait_replicas
        if wrote and (reply == WROTE or not replicas):
            self._log_written()
        return reply

    async def read(self, key: str, command: str, *arguments: Argument) -> Any:
        """Run a command that reads one key. Raises StoreUnavailable with its cause."""
        return await self.call("read", (key,), command, *arguments)

    async def call_in_any_epoch(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script that does not check the epoch. Raises StoreUnavailable with its cause."""
        try:
            return await self._run(script(name, checks_epoch=False), keys, arguments)
        except FAILURES as failure:
            raise StoreUnavailable(_cause(failure)) from failure

    async def settings(self, names: Iterable[str]) -> dict[str, str]:
        """Return settings of the server; those that it does not show to this user are absent."""
        try:
            async with Deadline(PATIENCE_SECONDS):
                found: Any = await self._client.config_get(*names)
        except FAILURES:
            return {}
        return {_text(name): _text(value) for name, value in found.items()}

    async def follow_primary(self) -> None:
        """Leave a former primary that still answers. Raises one of FAILURES."""
        await follow_primary(self._client)

    async def close(self) -> None:
        """Finish the calls that have begun, if the server answers, and disconnect.

        Later calls raise StoreUnavailable.
        """
        self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE_SECONDS)
        with suppress(*FAILURES):
            await close_client(self._client)

    async def _run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        replicas: int = 0,
    ) -> Any:
        if self._closed:
            raise StoreUnavailable
        async with Deadline(PATIENCE_SECONDS):
            with self.operations.observed("pool_wait"):
                await self._room.acquire()
            task = asyncio.create_task(self._bounded(script, keys, arguments, replicas))
            self._running.add(task)
            task.add_done_callback(self._ended)
            return await asyncio.shield(task)

    async def _bounded(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], replicas: int
    ) -> Any:
        try:
            async with Deadline(CALL_SECONDS):
                try:
                    return await script.run(self._client, keys, arguments, replicas)
                except ResponseError as refusal:
                    if not _is_elsewhere(refusal):
                        raise
                    await close_idle(self._client)
                    return await script.run(self._client, keys, arguments, replicas)
        except FAILURES as failure:
            if not isinstance(failure, ResponseError) or _is_elsewhere(failure):
                await close_idle(self._client)
            raise
        finally:  # here and not in `_run`: a call keeps its connection when its caller has left
            self._room.release()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # so that asyncio does not log it: its caller may have left

    async def _in_epoch(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument], replicas: int
    ) -> Any:
        """Run a script; again where the answer says that an operator confirmed another epoch."""
        try:
            return await self._run(script, (META, *keys), (self.epoch, *arguments), replicas)
        except ResponseError as refusal:  # the script did nothing
            if not str(refusal).startswith(_CONFIRMED):
                raise
            confirmed = str(refusal).removeprefix(_CONFIRMED)
        if confirmed != self.epoch:
            self._log.warning("continues with the data that an operator confirmed", epoch=confirmed)
        self.epoch = confirmed
        return await self._run(script, (META, *keys), (self.epoch, *arguments), replicas)

    def _log_written(self) -> None:
        """Log the end of a time of refused writes, once it is a while ago."""
        if self._refused_at and _now() - self._refused_at > CALM_SECONDS:
            self._refused_at = 0.0
            self._log.info("the store takes writes again")

    def _log_change(self, failure: BaseException | None) -> None:
        """Log the first failure of an outage or a loss of data, and the outage's end."""
        if str(failure).startswith(_LOST):
            if not self._lost:
                self._log.error(
                    "the store lost its data: nothing is bought until they are back, or until"
                    " `gateway store confirm-reset` accepts what the store has now"
                )
            self._lost = True
            return
        if isinstance(failure, OutOfMemoryError | NotReplicated):
            # A state of its own: reads go on, and would end an outage at once, again and again.
            if not self._refused_at:
                self._log.warning("the store takes no writes", cause=_cause(failure))
            self._refused_at = _now()
            return
        if failure is not None and not self._away:
            self._log.warning(
                "the store does not answer", cause=str(failure) or type(failure).__name__
            )
        elif failure is None and (self._away or self._lost):
            self._log.info("the store answers again")
            self._lost = False
        self._away = failure is not None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _is_elsewhere(refusal: ResponseError) -> bool:
    """Whether another server may be the primary. Then this one has not run the script."""
    return isinstance(refusal, _NOT_PRIMARY) or str(refusal).startswith(_LACKS_REPLICAS)


def _cause(failure: BaseException) -> str:
    """Return why the server cannot be used, as the end of a sentence without the server's text."""
    code = str(failure).partition(" ")[0]
    found = (cause for kind, cause in _CAUSES.items() if isinstance(failure, kind))
    return _CODES.get(code) or next(found, "it does not answer")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
