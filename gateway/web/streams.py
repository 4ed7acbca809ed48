"""Streams of events that begin before the answer is there (server-sent events).

A request with `stream: true` whose answer takes long gets its head after BEAT_SECONDS. Comments
then keep the connection from falling silent, until the last events come. A partial image goes out
at once, with the head before it. The status of such an answer is 200, so an error is an event. An
answer that is there before needs none of this: it is sent like any other, and an error has its own
status.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from aiohttp import HttpVersion11, web

from gateway.core.turns import Turns
from gateway.web.body import is_open, slices_of, write

BEAT_SECONDS = 15.0
"""When the head goes out, and the time between comments. Proxies on the way cut connections that
are silent for a minute; few do so after less than 30 s."""

BEAT = b": keep-alive\n\n"

MOST_WAITING = 4
MAX_WAITING_BYTES = 8_388_608
"""How many events before the last, and how many bytes of them, wait for a client that reads slowly.
Beyond that the oldest is dropped: partial images are mere previews."""


class EventStream:
    """The stream that answers a request, if it begins before the answer is there.

    `head` returns the headers. A client that takes longer than `unread_seconds` for a piece loses
    its connection. `turns` bounds the writing in each turn of the event loop.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        head: Callable[[], Mapping[str, str]],
        unread_seconds: float,
        turns: Turns,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._request = request
        self._head = head
        self._unread_seconds = unread_seconds
        self._turns = turns
        self._beat_seconds = beat_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[bytes] = deque()
        self._has_more = asyncio.Event()
        self._sending: asyncio.Task[bool] | None = None
        self._has_all = self._is_closed = False
        self.response: web.StreamResponse | None = None

    def expect(self) -> None:
        """Begin after a while, unless `close` is called before."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._beat_seconds, self.pass_on, BEAT)

    def close(self) -> None:
        """Do not begin any more, and send nothing more."""
        self._is_closed = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()
            # Its context is that of the purchase, which refers to this stream.
            self._sending = None

    def pass_on(self, event: bytes) -> None:
        """Send an event, unless the stream has its last or is closed, or its client has left."""
        if self._is_closed or self._has_all:
            return
        if self._sending is None:
            self._begin()
        self._put(event)
        while len(self._waiting) > MOST_WAITING or (
            len(self._waiting) > 1 and sum(map(len, self._waiting)) > MAX_WAITING_BYTES
        ):
            self._waiting.popleft()

    async def end(self, events: bytes) -> bool:
        """Send the last events of a stream that has begun. Returns whether all of it was sent."""
        if self._sending is None:
            return False
        self._has_all = True
        self._put(events)
        return await self._sending

    def _put(self, event: bytes) -> None:
        self._waiting.append(event)
        self._has_more.set()

    def _begin(self) -> None:
        """Send the head, and then what waits."""
        self.response = web.StreamResponse(headers=self._head())
        if self._request.version < HttpVersion11:
            self.response.force_close()  # its end is the end of the connection
        self._sending = asyncio.create_task(self._send(self.response))

    async def _send(self, response: web.StreamResponse) -> bool:
        """Send the events, and comments between them. Returns whether all of it was sent."""
        request, seconds = self._request, self._unread_seconds
        try:
            await response.prepare(request)
            while self._waiting or not self._has_all:
                await write(response, slices_of(await self._next()), seconds, self._turns)
            async with asyncio.timeout(seconds):
                await response.write_eof()
        except (TimeoutError, ConnectionError):  # it reads too slowly, or left just now
            if request.transport is not None:
                request.transport.abort()
            return False
        finally:
            self._is_closed = True
            self._waiting.clear()
        return is_open(request)

    async def _next(self) -> bytes:
        """Wait for the next event. Returns a comment if it is time for one."""
        try:
            async with asyncio.timeout(self._beat_seconds):
                while not self._waiting:
                    self._has_more.clear()
                    await self._has_more.wait()
        except TimeoutError:
            return BEAT
        return self._waiting.popleft()
