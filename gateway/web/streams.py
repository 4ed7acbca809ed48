"""Streams of events that begin before the answer is there (server-sent events).

A request with `stream: true` whose answer takes long gets its head after BEAT_SECONDS. Comments
then keep the connection from falling silent, until the last events come. A partial image goes out
at once, with the head before it. The status of such an answer is 200, so an error is an event. An
answer that is there before needs none of this: it is sent like any other, and an error has its own
status.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import HttpVersion11, web

from gateway.core.turns import Turns
from gateway.web.body import is_open, slices_of, write

BEAT_SECONDS = 15.0
"""When the head goes out, and the time between comments. Proxies on the way cut connections that
are silent for a minute; few do so after less than 30 s."""

BEAT = b": keep-alive\n\n"


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
        self._events: asyncio.Queue[bytes] | None = None
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
        if self._timer is not None:
            self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def pass_on(self, event: bytes) -> None:
        """Send an event, unless the stream is closed or its client has left."""
        if self._is_closed:
            return
        if self._events is None:
            self._events = self._begin()
        self._events.put_nowait(event)

    async def end(self, events: bytes) -> bool:
        """Send the last events of a stream that has begun. Returns whether all of it was sent."""
        if self._events is None or self._sending is None:
            return False
        self._has_all = True
        self._events.put_nowait(events)
        return await self._sending

    def _begin(self) -> asyncio.Queue[bytes]:
        """Send the head, and then what is put into the queue."""
        self.response = web.StreamResponse(headers=self._head())
        if self._request.version < HttpVersion11:
            self.response.force_close()  # its end is the end of the connection
        events = asyncio.Queue[bytes]()
        self._sending = asyncio.create_task(self._send(self.response, events))
        return events

    async def _send(self, response: web.StreamResponse, queue: asyncio.Queue[bytes]) -> bool:
        """Send the events, and comments between them. Returns whether all of it was sent."""
        request, seconds = self._request, self._unread_seconds
        try:
            await response.prepare(request)
            while not (self._has_all and queue.empty()):
                event = await self._next(queue)
                await write(response, slices_of(event), seconds, self._turns)
            async with asyncio.timeout(seconds):
                await response.write_eof()
        except (TimeoutError, ConnectionError):  # it reads too slowly, or left just now
            if request.transport is not None:
                request.transport.abort()
            return False
        return is_open(request)

    async def _next(self, queue: asyncio.Queue[bytes]) -> bytes:
        """Wait for the next event. Returns a comment if it is time for one."""
        try:
            async with asyncio.timeout(self._beat_seconds):
                return await queue.get()
        except TimeoutError:
            return BEAT
