"""Reading a connection in small pieces.

aiohttp keeps what it has read and cannot handle yet. uvloop reads up to 256 KB at once.
"""

import asyncio

READ_BYTES = 8_192
"""The largest piece. Nearly all requests fit into one."""


class BoundedReads(asyncio.BufferedProtocol):
    """Passes the events of a connection on to `protocol`, and its bytes through `buffer`.

    Connections of one event loop can share a buffer: it only holds bytes during a read.
    """

    __slots__ = ("_buffer", "_protocol")

    def __init__(self, protocol: asyncio.Protocol, buffer: memoryview) -> None:
        self._protocol = protocol
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limit = getattr(transport, "set_read_buffer_limits", None)
        if limit is not None:  # TLS: else it buffers 256 KB that the gateway cannot take yet
            limit(high=READ_BYTES)
        self._protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        # Else a TLS connection refers to itself, and its 30 KB wait for the garbage collection.
        self._protocol = asyncio.Protocol()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
