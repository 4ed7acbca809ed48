"""Waiting for a server a bounded time, in which a standstill of this very process hardly counts.

A process that did not run for a while (a machine that pauses, a container out of CPU, a long step
of another request) finds on waking that its deadlines have passed and that the answers have come,
both at once; `asyncio.timeout` then throws the answers away. A Redis would be taken for one that
is away, and pictures it holds would be bought again. So the time is counted in slices, one after
the other: however long a standstill takes, it uses up one of them.
"""

import asyncio
from types import TracebackType

SLICES = 10


class Patience:
    """`async with Patience(2.0):` ends its body after about 2 s. Raises TimeoutError.

    The body is cancelled as by `asyncio.timeout`, later by as much as the event loop was late.
    """

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / SLICES
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._wait(SLICES)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, failure, trace)

    def _wait(self, left: int) -> None:
        loop = asyncio.get_running_loop()
        if left:
            self._timer = loop.call_later(self._slice, self._wait, left - 1)
        else:
            self._timeout.reschedule(loop.time())
