"""A deadline for the answer of a server, which a pause of this process itself does not use up.

A process may pause: the machine sleeps, a container runs out of CPU, another request takes a long
step. When it continues, its deadlines have passed and the answers have arrived, both at once, and
`asyncio.timeout` discards the answers. Redis would seem to be away, and images in its cache would
be bought again; a picture that was paid for would be thrown away. So the deadline counts time in
slices, one after the other. A pause of any length uses up only one slice.
"""

import asyncio
from typing import Any, Self

SLICES = 10
"""A pause uses up at most a tenth of the deadline."""


class Deadline:
    """`async with Deadline(2.0):` cancels its body after about 2 s, with TimeoutError.

    It works like `asyncio.timeout`, but later by the time that the event loop was late. With None,
    the time begins at `start`.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        if self._seconds is not None:
            self.start(self._seconds)
        return self

    async def __aexit__(self, *failure: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # its context may refer to this deadline
        await self._timeout.__aexit__(*failure)

    def start(self, seconds: float) -> None:
        """Begin to count."""
        self._slice = seconds / SLICES
        self._wait(SLICES)

    def expire(self) -> None:
        """End the time now."""
        self._timeout.reschedule(asyncio.get_running_loop().time())

    def expired(self) -> bool:
        """Whether the time was up."""
        return self._timeout.expired()

    def _wait(self, left: int) -> None:
        loop = asyncio.get_running_loop()
        if left:
            self._timer = loop.call_later(self._slice, self._wait, left - 1)
        else:
            self._timeout.reschedule(loop.time())
