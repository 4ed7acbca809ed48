"""A TCP proxy that cuts, stalls, slows and corrupts connections at byte positions, either way.

It stands between any two parts, such as a client and a gateway, or a gateway and its upstream.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from math import inf
from typing import Literal

from msgspec import Struct

_NO_LINGER = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a close resets a connection."""


class Fault(Struct, frozen=True, kw_only=True):
    """What happens to a connection when the byte at position `at`, from 0, of one way arrives.

    - "cut": closes both sides once the bytes before it are written. "reset": resets both sides,
      and then the bytes before it may be lost, too.
    - "stall": passes this and later bytes only after `seconds`, by default never.
    - "slow": passes `length` bytes one at a time, each after `seconds`.
    - "corrupt": inverts the bits of `length` bytes.

    No fault outlives its connection: once one side has closed it, the other side is closed, too.
    """

    kind: Literal["cut", "reset", "stall", "slow", "corrupt"]
    way: Literal["request", "reply"] = "reply"
    at: int = 0
    seconds: float = inf
    length: int = 1


class TcpProxy:
    """Forwards the connections to its own port to `ports` of this machine, in turn.

    Each new connection takes the next of `faults`, and has none once they are used up. Three
    switches change the replies on all connections: `drop_replies` drops them, `delay` holds each
    piece back, in seconds, and `rewrite` changes it. Connections made from then on are closed once
    no reply comes for `patience` seconds.
    """

    def __init__(self, *ports: int) -> None:
        self.port = 0
        self.faults: Iterator[Fault | None] = iter(())
        self.drop_replies = False
        self.delay = 0.0
        self.patience: float | None = None
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self._targets = cycle(ports)
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The URL of an HTTP server behind it."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, again on the same port if that was chosen before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections and cut the open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset all connections; accept new ones."""
        for writer in self._connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = next(self.faults, None)
        self._connections.add(writer)  # a stop may come before the other side is connected
        try:
            their_reader, their_writer = await asyncio.open_connection(
                "127.0.0.1", next(self._targets)
            )
        except OSError:
            writer.transport.abort()
            self._connections.discard(writer)
            return
        both = {writer, their_writer}
        self._connections |= both
        requests, replies = _pieces(reader), self._changed(_pieces(their_reader, self.patience))
        if fault is not None and fault.way == "request":
            requests = _faulty(requests, fault, both)
        elif fault is not None:
            replies = _faulty(replies, fault, both)
        ways = [
            asyncio.create_task(_pass(requests, their_writer)),
            asyncio.create_task(_pass(replies, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            for each in both:
                each.close()
            self._connections -= both

    async def _changed(self, replies: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Apply the switches to replies."""
        async for piece in replies:
            dropped = self.drop_replies
            await asyncio.sleep(self.delay)
            if not dropped:
                yield self.rewrite(piece)


async def _pieces(
    reader: asyncio.StreamReader, patience: float | None = None
) -> AsyncIterator[bytes]:
    with suppress(TimeoutError):
        while piece := await asyncio.wait_for(reader.read(65_536), patience):
            yield piece


async def _pass(pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()


async def _faulty(
    pieces: AsyncIterator[bytes], fault: Fault, both: set[asyncio.StreamWriter]
) -> AsyncIterator[bytes]:
    """Apply the fault at its position. Ends early if the connection does."""
    before, length = fault.at, fault.length
    async for piece in pieces:
        early, rest = piece[:before], piece[before:]
        before -= len(early)
        yield early
        if not rest:
            continue
        if fault.kind == "reset":
            _reset(both)
        if fault.kind in ("cut", "reset"):
            return
        if fault.kind == "stall" and length:
            await asyncio.sleep(fault.seconds)
            length = 0
        for byte in rest[:length]:
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
            yield bytes([byte ^ 0xFF if fault.kind == "corrupt" else byte])
        yield rest[length:]
        length = max(0, length - len(rest))


def _reset(both: set[asyncio.StreamWriter]) -> None:
    for writer in both:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()


@asynccontextmanager
async def tcp_proxy(*ports: int) -> AsyncIterator[TcpProxy]:
    """A proxy for ports of this machine, which its connections reach in turn."""
    proxy = TcpProxy(*ports)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
