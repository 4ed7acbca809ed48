"""A TCP proxy that can drop, delay or change replies, and cut connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class TcpProxy:
    """Forwards everything to `port` of this machine.

    `drop_replies` drops what the server sends; `delay` holds each piece of it back, in seconds;
    `rewrite` changes it. What clients send is always forwarded.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.drop_replies = False
        self.delay = 0.0
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

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
        try:
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, their_writer}
        self._connections |= both
        try:
            await asyncio.gather(
                self._pass(reader, their_writer), self._pass_back(their_reader, writer)
            )
        finally:
            self._connections -= both

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.transport.close()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                dropped = self.drop_replies
                await asyncio.sleep(self.delay)
                if not dropped:
                    writer.write(self.rewrite(data))
        writer.transport.close()


@asynccontextmanager
async def tcp_proxy(port: int) -> AsyncIterator[TcpProxy]:
    """A proxy for a port of this machine."""
    proxy = TcpProxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
