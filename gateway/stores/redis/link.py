"""Calls to the server, each bounded in time, with its failures translated and its epoch checked.

- A caller waits at most PATIENCE_SECONDS in total: for a free connection, for connecting, for the
  reply. A call that was sent by then may still be done, as the ports say.
- A call that has begun has a task of its own, is never cancelled, and ends within a bound of its
  own. So no reply is left on a connection that another call uses next, and a caller that leaves
  costs no connection. (redis-py closes the connection of a cancelled call.)
- A call that still waits for a connection when its caller leaves is never sent.
- A server in another epoch has lost its data. It is refused until an operator confirms that.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ReadOnlyError, RedisClusterException, RedisError, ResponseError

from gateway.config.store_url import StoreUrl
from gateway.core.deadline import Deadline
from gateway.core.errors import StoreLost, StoreUnavailable
from gateway.stores.operations import Operations
from gateway.stores.port import Observe
from gateway.stores.redis.client import close_client, open_client
from gateway.stores.redis.names import META
from gateway.stores.redis.scripts import Argument, Script, script

P = ParamSpec("P")
T = TypeVar("T")

Method = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]

CONNECTIONS = 8
"""To each server. The ledger uses one at a time, and everything else shares the others."""

PATIENCE_SECONDS = 2.0
"""Bounds a call, including the wait for a connection."""

CALL_SECONDS = 1.0
"""How long a call that has begun may take, connecting included."""

MICROSECONDS = 1_000_000
"""In a second: the server's clock counts microseconds."""

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
"""Exceptions of redis-py for a server that is away, full, loading, demoted or broken."""

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

    As "pool_wait", `observe` receives how long each call waited for one of the connections.
    """

    def __init__(self, place: StoreUrl, observe: Observe | None) -> None:
        self.epoch = ""
        self.place = place.shown
        self.operations = Operations(self.place, observe)
        self._log = structlog.get_logger(source="store", place=self.place)
        self._client = open_client(place, connections=CONNECTIONS, retries=0)
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._away = False
        self._lost = False

    async def call(
        self, name: str, keys: Sequence[str], *arguments: Argument, allow_oom: bool = False
    ) -> Any:
        """Run a script that checks the epoch: see `gateway.stores.redis.scripts.script`.

        Its first key is `meta`, its first argument the epoch; these come after them. Raises
        StoreUnavailable with its cause.
        """
        try:
            reply = await self._in_epoch(script(name, allow_oom=allow_oom), keys, arguments)
        except FAILURES as failure:
            self._log_change(failure)
            unavailable = StoreLost if self._lost else StoreUnavailable
            raise unavailable from failure
        self._log_change(None)
        return reply

    async def read(self, key: str, command: str, *arguments: Argument) -> Any:
        """Run a command that reads one key. Raises StoreUnavailable with its cause."""
        return await self.call("read", (key,), command, *arguments)

    async def call_in_any_epoch(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """Run a script that does not check the epoch. Raises StoreUnavailable with its cause."""
        try:
            return await self._run(script(name, checks_epoch=False), keys, arguments)
        except FAILURES as failure:
            raise StoreUnavailable from failure

    async def setting(self, name: str) -> str | None:
        """Return a setting of the server; None where it does not show it to this user."""
        client = self._client
        try:
            async with Deadline(PATIENCE_SECONDS):
                if isinstance(client, RedisCluster):
                    node = client.get_default_node()
                    found = await client.config_get(name, target_nodes=node)
                else:
                    found = await client.config_get(name)
        except FAILURES:
            return None
        value: str | bytes | None = next(iter(found.values()), None)
        return value.decode() if isinstance(value, bytes) else value

    async def close(self) -> None:
        """Finish the calls that have begun, if the server answers, and disconnect.

        Later calls raise StoreUnavailable.
        """
        self._closed = True
        if self._running:
            await asyncio.wait(self._running, timeout=PATIENCE_SECONDS)
        with suppress(*FAILURES):
            await close_client(self._client)

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        if self._closed:
            raise StoreUnavailable
        async with Deadline(PATIENCE_SECONDS):
            with self.operations.observed("pool_wait"):
                await self._room.acquire()
            task = asyncio.create_task(self._bounded(script.run(self._client, keys, arguments)))
            self._running.add(task)
            task.add_done_callback(self._ended)
            return await asyncio.shield(task)

    async def _bounded(self, call: Awaitable[Any]) -> Any:
        try:
            async with Deadline(CALL_SECONDS):
                return await call
        except ReadOnlyError:
            # The server has become a replica. Its name may lead to the new master.
            if isinstance(self._client, Redis):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise
        finally:  # here and not in `_run`: a call keeps its connection when its caller has left
            self._room.release()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # so that asyncio does not log it: its caller may have left

    async def _in_epoch(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        """Run a script; again where the answer says that an operator confirmed another epoch."""
        try:
            return await self._run(script, (META, *keys), (self.epoch, *arguments))
        except ResponseError as refusal:  # the script did nothing
            if not str(refusal).startswith(_CONFIRMED):
                raise
            confirmed = str(refusal).removeprefix(_CONFIRMED)
        if confirmed != self.epoch:
            self._log.warning("continues with the data that an operator confirmed", epoch=confirmed)
        self.epoch = confirmed
        return await self._run(script, (META, *keys), (self.epoch, *arguments))

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
        if failure is not None and not self._away:
            self._log.warning(
                "the store does not answer", cause=str(failure) or type(failure).__name__
            )
        elif failure is None and (self._away or self._lost):
            self._log.info("the store answers again")
            self._lost = False
        self._away = failure is not None
