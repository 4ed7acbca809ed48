"""Turns for pipelined requests, so that they hold up nobody else.

A client may send many requests at once. Many such clients would fill each turn of the event loop,
and any other client would wait for all of them. So only one pipelined request of a port begins in
each turn. A client that waits for its answers never comes here.
"""

import asyncio
from collections import deque


class Turns:
    """Lets waiting requests go on in their order, one in each turn of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = deque[asyncio.Future[None]]()
        self._runs = False

    async def wait(self) -> None:
        """Wait for a turn, at least until the next one."""
        turn = self._loop.create_future()
        self._waiting.append(turn)
        if not self._runs:
            self._runs = True
            self._loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its client is still there
                turn.set_result(None)
                self._loop.call_soon(self._next)
                return
        self._runs = False
