"""The event loop of a serving gateway: uvloop's. Importing this raises ImportError without it."""

import socket
from typing import Any

import uvloop


class Loop(uvloop.Loop):
    """uvloop's loop, which knows an address when it is given one.

    Its `sock_connect` looks up even a numeric address, and without a kind of socket it does so in
    a thread: two hand-overs, 0.1 ms of CPU, for each connection to the upstream.
    """

    async def getaddrinfo(self, host: Any, port: Any, *, type: int = 0, **options: int) -> Any:
        """As uvloop's, for TCP unless another kind is named: all that this process speaks."""
        return await super().getaddrinfo(host, port, type=type or socket.SOCK_STREAM, **options)
