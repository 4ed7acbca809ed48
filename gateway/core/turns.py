"""Sharing the turns of the event loop: work that comes all at once is spread over several turns.

A thousand answers that are ready in one moment would otherwise be written in one turn, which stops
all other requests for a second.
"""

import asyncio
from collections import deque


class Turns:
    """Lets `size` callers go on in each turn of the event loop, in the order in which they came."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._waiting = deque[asyncio.Future[None]]()

    async def take(self) -> None:
        """Wait for a turn that has room. There is no wait in a turn with few callers."""
        if self._left and not self._waiting:
            self._use()
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _use(self) -> None:
        if self._left == self._size:
            asyncio.get_running_loop().call_soon(self._renew)
        self._left -= 1

    def _renew(self) -> None:
        """Begin a turn: callers that wait come first."""
        self._left = self._size
        while self._left and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # its caller may have left
                self._use()
                waiter.set_result(None)
