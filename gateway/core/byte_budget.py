"""A budget for bytes in memory that tasks wait for, first come, first served.

A burst of large pictures then takes longer, but not more memory.

Tasks whose parts grow could all wait for each other. So one of them at a time may go beyond the
budget, until its part ends: then at most twice the budget is in memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class OverBudget(Exception):
    """More bytes were asked for than the whole budget has."""


class ByteBudget:
    """At most `size` bytes are held at any time, apart from the one part that goes beyond."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size
        self._waiting = deque[tuple[asyncio.Future[None], int]]()
        self._beyond = asyncio.Lock()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait for so many bytes, and hold them for the block. Raises OverBudget.

        A small part waits behind a large one: else small ones could keep it waiting for ever.
        """
        async with self.grow() as part:
            await part.reach(size)
            yield

    @asynccontextmanager
    async def grow(self) -> AsyncIterator["Part"]:
        """Hold a part for the block that is empty at first."""
        part = Part(self)
        try:
            yield part
        finally:
            if part.is_beyond:
                self._beyond.release()
            self._give_back(part.held)

    async def _extend(self, part: "Part", more: int) -> None:
        if not part.size:
            if self._waiting or more > self.free:
                await self._turn(more)
            else:
                self.free -= more
        elif part.is_beyond:
            return
        elif not self._took(more):
            await self._beyond.acquire()
            if not self._took(more):  # else memory has become free meanwhile
                part.is_beyond = True
                return
            self._beyond.release()
        part.held += more

    def _took(self, more: int) -> bool:
        """Take so many bytes at once if they are free: before those who hold nothing yet."""
        if more > self.free:
            return False
        self.free -= more
        return True

    async def _turn(self, size: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was granted in the same moment
                self._give_back(size)
            else:
                self._grant()  # it may have been the first, and too large for what was free
            raise

    def _give_back(self, size: int) -> None:
        self.free += size
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            turn, size = self._waiting[0]
            if turn.done():  # its task was cancelled
                self._waiting.popleft()
                continue
            if size > self.free:
                return
            self._waiting.popleft()
            self.free -= size
            turn.set_result(None)


class Part:
    """A part of a budget that grows. `held` of its `size` bytes are within the budget.

    It has at most `most`.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.most = budget.size
        self.size = self.held = 0
        self.is_beyond = False
        self._budget = budget

    async def reach(self, size: int) -> None:
        """Wait until the part may have so many bytes. Raises OverBudget."""
        if size > self.most:
            raise OverBudget
        if size > self.size:
            await self._budget._extend(self, size - self.size)
            self.size = size
