"""Accepting the connections of a port, and refusing those above its limits.

The port accepts by itself, because the event loops cannot refuse a connection before its TLS
handshake. Without free file descriptors, asyncio stops accepting for a second, and uvloop closes
connections without a word.

A refused connection gets a 503 with Retry-After, which load balancers pass on and SDKs obey. If the
port closed it instead, a load balancer would have to assume that a request was lost on the way, and
stop its client from sending it again. Over TLS, an answer would cost a handshake, so the connection
is closed: SDKs connect again.
"""

import asyncio
import errno
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, NamedTuple

import structlog

from gateway.core.errors import Overloaded, wait_headers
from gateway.telemetry.observer import ConnectionRefusal, Observer
from gateway.web.addresses import client_network
from gateway.web.bounded_reads import READ_BYTES, BoundedReads
from gateway.web.file_reserve import FileReserve
from gateway.web.responses import raw_error

log = structlog.get_logger(source="web")

BACKLOG = 4_096
"""Connections that may wait to be accepted, so that the kernel refuses none in a burst."""

ACCEPTED_AT_ONCE = 64
"""Connections accepted in one turn of the event loop, so that a flood stops nobody."""

KERNEL_BYTES = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)]
if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Linux and macOS
    KERNEL_BYTES.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 131_072))
"""Bytes of a connection that the kernel takes before the gateway reads them, and before it can send
them. Otherwise it takes megabytes from each client that sends too much, and copies megabytes for
each one that reads nothing."""

LINGERING = 32
"""Refused connections that are kept open until their clients have read the answer. Closing one with
unread bytes resets it, and the client might lose the answer."""

QUIET_SECONDS = 10.0
"""A condition has ended if it has not recurred for so long."""

RETRY_SECONDS = 5
"""Refused clients are asked to wait between one and so many seconds, one after the other."""

PAUSE_SECONDS = 0.1
"""How long a port waits if it can accept nothing at all."""

_NO_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_EVENTS: dict[ConnectionRefusal, str] = {
    "full": "connections refused: max_connections is reached",
    "address": "connections refused: an address has max_connections_per_address",
    "files": "out of file descriptors",
}


class ConnectionLimits(NamedTuple):
    """The most connections of a port, in all and for each client address (0: no limit)."""

    total: float = inf
    per_address: int = 0


NO_CONNECTION_LIMITS = ConnectionLimits()


class _Condition:
    """A condition that is logged when it begins and when it has ended, however often it occurs."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._count = 0
        self._last = 0.0

    def occurred(self, now: float, **fields: object) -> None:
        if not self._count:
            log.warning(self._event, **fields)
        self._count += 1
        self._last = now

    def look(self, now: float) -> None:
        if self._count and now - self._last > QUIET_SECONDS:
            log.info("connections are accepted again", former=self._event, times=self._count)
            self._count = 0


class Acceptor:
    """Accepts connections and connects each one to a protocol that `make` returns.

    The protocol calls `lost` once its connection is closed. An `essential` port serves clients even
    when the process is out of file descriptors, as long as the `reserve` lasts.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        limits: ConnectionLimits,
        reserve: FileReserve,
        observer: Observer,
        *,
        essential: bool,
    ) -> None:
        self._make = make
        self._limits = limits
        self._reserve = reserve
        self._essential = essential
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._handshake_seconds: float | None = None
        self._open: dict[asyncio.BaseProtocol, str] = {}
        self._by_network = Counter[str]()
        self._beginning = set[asyncio.Task[Any]]()
        self._lingering: deque[tuple[float, socket.socket]] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._refused = 0
        self._conditions = {reason: _Condition(event) for reason, event in _EVENTS.items()}

    @property
    def connections(self) -> int:
        """The number of open connections, handshakes included."""
        return len(self._open)

    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None, handshake_seconds: float
    ) -> tuple[str, int]:
        """Listen, and return the first address and port. Raises OSError."""
        self._tls = tls
        self._handshake_seconds = handshake_seconds if tls else None
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        new = list[socket.socket]()
        for family, _, _, _, address in dict.fromkeys(found):
            listening = socket.create_server(address, family=family, backlog=BACKLOG)
            listening.setblocking(False)
            for level, option, size in KERNEL_BYTES:
                listening.setsockopt(level, option, size)  # connections inherit it
            self._listening.append(listening)
            new.append(listening)
            self._resume(listening)
        name, number = new[0].getsockname()[:2]
        return name, number

    def look(self, now: float) -> None:
        """Log conditions that have ended, and close refused connections. Call it each second."""
        self._reserve.fill()
        for condition in self._conditions.values():
            condition.look(now)
        while self._lingering and now - self._lingering[0][0] > 1:
            self._lingering.popleft()[1].close()

    def lost(self, protocol: asyncio.BaseProtocol) -> None:
        """Count a connection as closed."""
        network = self._open.pop(protocol, "")
        if network:
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def stop(self) -> None:
        """Accept no further connections, after those that wait already.

        The kernel would reset those, and their clients have sent requests by then. If a client is a
        load balancer, it answers 502: it never sends a purchase twice.
        """
        while self._listening:
            listening = self._listening.pop()
            self._accept(listening, BACKLOG)
            self._loop.remove_reader(listening)
            listening.close()

    async def close(self) -> None:
        """Stop, and cut connections whose handshake has not ended."""
        self.stop()
        for task in self._beginning:
            task.cancel()
        await asyncio.gather(*self._beginning, return_exceptions=True)
        while self._lingering:
            self._lingering.popleft()[1].close()

    # -- one connection -------------------------------------------------------------------------

    def _resume(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket, most: int = ACCEPTED_AT_ONCE) -> None:
        """Take the connections that wait."""
        for _ in range(most):
            try:
                connection, address = listening.accept()
            except OSError as error:  # nobody waits, or the client has left already
                if error.errno not in _NO_FILES:
                    return
                self._note("files", cause=error.strerror)
                if not self._reserve.give():
                    self._loop.remove_reader(listening)
                    self._loop.call_later(PAUSE_SECONDS, self._resume, listening)
                    return
                continue
            connection.setblocking(False)
            if self._reserve.fill():
                self._admit(connection, address[0])
            elif self._essential:
                self._reserve.give()  # for files that its requests open
                self._admit(connection, address[0])
            else:
                self._note("files")
                self._refuse(connection, "files")
                connection.close()

    def _admit(self, connection: socket.socket, address: str) -> None:
        """Serve the connection, or refuse it."""
        network = client_network(address) if self._limits.per_address else ""
        if len(self._open) >= self._limits.total:
            self._linger(connection, "full", maximum=self._limits.total)
        elif network and self._by_network[network] >= self._limits.per_address:
            self._linger(connection, "address", address=network)
        else:
            self._begin(connection, network)

    def _begin(self, connection: socket.socket, network: str) -> None:
        protocol = self._make()
        self._open[protocol] = network
        if network:
            self._by_network[network] += 1
        begun = self._loop.create_task(
            self._loop.connect_accepted_socket(
                lambda: BoundedReads(protocol, self._buffer),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_seconds,
            )
        )
        self._beginning.add(begun)
        begun.add_done_callback(partial(self._begun, protocol, connection))

    def _begun(
        self,
        protocol: asyncio.BaseProtocol,
        connection: socket.socket,
        task: asyncio.Task[Any],
    ) -> None:
        """Forget the task. If it failed, the handshake did, or the client has left."""
        self._beginning.discard(task)
        if task.cancelled() or task.exception() is not None:
            connection.close()
            self.lost(protocol)

    def _linger(
        self, connection: socket.socket, reason: ConnectionRefusal, **fields: object
    ) -> None:
        """Refuse the connection, and close it once its client has had time to read the answer."""
        self._note(reason, **fields)
        self._refuse(connection, reason)
        if self._tls is not None:
            connection.close()
            return
        self._lingering.append((self._loop.time(), connection))
        if len(self._lingering) > LINGERING:
            self._lingering.popleft()[1].close()

    def _note(self, reason: ConnectionRefusal, **fields: object) -> None:
        self._conditions[reason].occurred(self._loop.time(), **fields)

    def _refuse(self, connection: socket.socket, reason: ConnectionRefusal) -> None:
        self._observer.connection_refused(reason)
        self._refused += 1
        if self._tls is None:
            wait = 1 + self._refused % RETRY_SECONDS
            with suppress(OSError):
                connection.send(raw_error(_FULL, wait_headers(wait)))
                connection.shutdown(socket.SHUT_WR)
                connection.recv(65_536)  # what has come already, so that closing resets nothing


_FULL = Overloaded("The gateway already has its maximum of connections. Try again shortly.")
