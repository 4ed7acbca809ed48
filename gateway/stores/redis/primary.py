"""Finds the primary: the server that sentinels name, or the cluster's node that holds a slot.

All servers that may know it are asked at the same time, so that one that is gone or hangs delays
nothing. A majority of equal answers decides at once. Without a majority, after FIND_SECONDS, the
answer with the highest epoch does, and among those the most frequent one: a sentinel that a broken
network has isolated still names the former primary.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import AuthenticationError, ConnectionError, RedisError

from gateway.core.deadline import Deadline

FIND_SECONDS = 0.4
"""How long servers may take to answer. It leaves time for the call itself."""

Address = tuple[str, int]
Options = dict[str, Any]


class SentinelRefuses(AuthenticationError):
    """A sentinel does not accept its user and password."""


class PrimaryFinder(ABC):
    """Asks all servers for the primary. `options` are redis-py's, for connections to them."""

    def __init__(self, nodes: Iterable[Address], options: Options) -> None:
        self._options = options
        self._clients = {address: self._client(address) for address in nodes}

    def _client(self, address: Address) -> Redis:
        host, port = address
        return Redis(host=host, port=port, **self._options)

    async def find(self) -> Address:
        """Return the primary's address. Raises ConnectionError with the reason."""
        votes = Counter[Address]()
        epochs: dict[Address, int] = {}
        failures: list[Exception] = []
        tasks = [asyncio.create_task(self._asked(*each)) for each in self._clients.items()]
        try:
            with suppress(TimeoutError):
                async with Deadline(FIND_SECONDS):
                    for answer in asyncio.as_completed(tasks):
                        match await answer:
                            case Exception() as failure:
                                failures.append(failure)
                            case (address, epoch):
                                votes[address] += 1
                                epochs[address] = max(epoch, epochs.get(address, 0))
                                if 2 * votes[address] > len(tasks):
                                    return address
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not votes:
            # A refused password does not end without help, so it goes before all others.
            failures.sort(key=lambda failure: isinstance(failure, AuthenticationError))
            failure = failures[-1] if failures else TimeoutError("no answer in time")
            raise ConnectionError(f"{self.unknown}: {failure}") from failure
        return max(votes, key=lambda address: (epochs[address], votes[address]))

    async def _asked(self, address: Address, client: Redis) -> tuple[Address, int] | Exception:
        try:
            return await self.ask(address, client)
        except (RedisError, OSError, LookupError, ValueError) as failure:
            return failure

    @property
    @abstractmethod
    def unknown(self) -> str:
        """The beginning of the text of a failure."""

    @abstractmethod
    async def ask(self, address: Address, client: Redis) -> tuple[Address, int]:
        """Ask one server. Returns the primary, and the epoch of the configuration that says so.

        Raises what redis-py raises, and LookupError or ValueError for any other answer.
        """

    async def close(self) -> None:
        """Close all connections. Raises what redis-py raises."""
        for client in self._clients.values():
            await client.aclose()


class SentinelFinder(PrimaryFinder):
    """Asks sentinels for the primary of a service."""

    def __init__(self, nodes: Iterable[Address], service: str, options: Options) -> None:
        super().__init__(nodes, options)
        self._service = service

    @property
    def unknown(self) -> str:
        return f"no sentinel names a primary of {self._service!r}"

    async def ask(self, address: Address, client: Redis) -> tuple[Address, int]:
        try:
            state: Any = await client.sentinel_master(self._service)
        except AuthenticationError as refusal:
            raise SentinelRefuses(str(refusal)) from None
        if state["is_sdown"] or state["is_odown"] or not state["is_master"]:
            raise LookupError("the primary is down")
        return (state["ip"], int(state["port"])), int(state["config-epoch"])


class ClusterFinder(PrimaryFinder):
    """Asks the nodes of a cluster which one holds a slot: the given ones, and those they name."""

    def __init__(self, nodes: Sequence[Address], slot: int, options: Options) -> None:
        super().__init__(nodes, options)
        self._given = nodes
        self._slot = slot
        self._named: set[Address] = set()

    async def find(self) -> Address:
        self._named = set()
        address = await super().find()
        for new in self._named - self._clients.keys():
            self._clients[new] = self._client(new)
        for gone in self._clients.keys() - self._named - set(self._given):
            await self._clients.pop(gone).aclose()
        return address

    @property
    def unknown(self) -> str:
        return "no node of the cluster names the primary"

    async def ask(self, address: Address, client: Redis) -> tuple[Address, int]:
        slots: Any = await client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]  # redis has no types here
        found = None
        for first, last, *nodes in slots:
            # A node names itself without a host where it does not know its own address.
            known = [((host or b"").decode() or address[0], port) for host, port, *_ in nodes]
            self._named.update(known)
            if first <= self._slot <= last:
                found = known[0]
        if found is None:
            raise LookupError("no node holds the slot")
        return found, 0


class PrimaryConnection(Connection):
    """A connection to the server that `finder` names when it connects."""

    def __init__(self, *, finder: PrimaryFinder, **options: Any) -> None:
        self._finder = finder
        super().__init__(**options)

    async def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        if not self.is_connected:
            self.host, self.port = await self._finder.find()
        await super().connect_check_health(*args, **kwargs)


class PrimaryTlsConnection(PrimaryConnection, SSLConnection):
    """The same with TLS."""


class PrimaryPool(ConnectionPool):
    """Connections to one primary, wherever it is."""

    async def close_idle(self) -> None:
        """Close the idle connections, so that the next call looks for the primary again.

        It awaits no server: a call that comes meanwhile gets no half-closed connection.
        """
        for connection in list(self._available_connections):
            await connection.disconnect(nowait=True)

    async def follow(self) -> None:
        """Close the idle connections to a server that is no longer the primary.

        Raises ConnectionError where nobody names the primary.
        """
        finder: PrimaryFinder | None = self.connection_kwargs.get("finder")
        if finder is None:
            return
        address = await finder.find()
        idle: list[Any] = list(self._available_connections)
        for connection in idle:
            if (connection.host, connection.port) != address:
                await connection.disconnect(nowait=True)
