"""The client of the paid API: one call is at most one request on the wire.

- Nothing is sent twice. aiohttp only repeats idempotent methods, and redirects are not followed.
- A failure before the connection is established costs nothing. Any later failure is charged as
  unknown, even if the upstream most likely generated nothing.
- Each call has its own connection. The upstream may close a reused one just as the request goes
  out, and then the call must be charged. And an upstream may write to an idle connection (some
  write 408). aiohttp takes that as the response to the next request, perhaps another team's. Both
  were observed. A connection costs 0.1 ms of CPU, 0.8 ms with TLS, and a call takes seconds.
- The request is sent unchanged: no proxy from the environment, no cookies, no change of the URL.
- aiohttp's errors do not leave this file, because they contain the request's headers and so the
  key.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar

import aiohttp
import structlog
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway import __version__
from gateway.config.settings import UpstreamSettings
from gateway.core.connect_errors import why_unreachable
from gateway.core.deadline import Deadline
from gateway.core.http_client import (
    NOTHING_SENT,
    joined,
    plain_session,
)
from gateway.core.tasks import Service
from gateway.core.upstream_errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)
from gateway.upstream.decompress import GZIP_MAGIC, inflate
from gateway.upstream.events import END, TYPE, StreamedAnswer, are_events
from gateway.upstream.port import NO_TRACE, NOTHING_WANTED, Reply, Wanted

log = structlog.get_logger(source="upstream")

PROBE_SECONDS = 30
"""The interval of TCP keep-alive probes. An image takes minutes, and routers on the way drop silent
connections."""

GRACE_SECONDS = 0.5
"""How long a stream that has all of its pictures, or an error, is read on, for excess."""

LOOK_SECONDS = 1.0
"""How often a call looks whether its connection is still there."""


class _Received:
    """A response as far as it came over the wire.

    `is_stream`: its events were read as they came. Otherwise it is in the chunks.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.encoding = ""
        self.chunks: list[bytes] = []
        self.is_stream = self.is_too_long = False

    @property
    def is_labelled(self) -> bool:
        """Whether it says that it is a stream."""
        return self.headers.get("content-type", "").lower().startswith(TYPE)


class HttpUpstream(Service):
    """Calls the upstream that the settings of each call name.

    A connection takes at most `connect_seconds`, and the whole call at most `timeout_seconds`. A
    response has at most `max_response_bytes`, both on the wire and inflated.
    """

    async def start(self) -> None:
        """Make the session of all calls."""
        self._session = plain_session(
            _Connector(limit=0, force_close=True, socket_factory=_probed_socket)
        )

    async def close(self) -> None:
        """Close all connections. Calls in flight end as cut off."""
        await self._session.close()

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
        wanted: Wanted = NOTHING_WANTED,
    ) -> Reply:
        """See `gateway.upstream.port.Upstream`."""
        headers = {**_headers(settings.key, request_id), **trace}
        received, streamed = _Received(), StreamedAnswer(wanted)
        max_bytes = settings.max_response_bytes
        error: UpstreamError
        try:
            # This timer starts with the connection. Before that, the connector has its own.
            async with Deadline(None) as timer:
                watch = _Watch(timer, settings.timeout_seconds)
                on_connected = _connected.set(watch.begin)
                try:
                    await self._ask(body, headers, settings, received, streamed)
                finally:
                    # Else the task's context refers to the task, which keeps its response alive.
                    _connected.reset(on_connected)
                    watch.end()
        except NOTHING_SENT as failure:
            cause, detail = why_unreachable(failure)
            log.warning("upstream unreachable", id=request_id, cause=cause, detail=detail)
            raise UpstreamUnreachable from None
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            is_late = timer.expired() and not watch.found_lost
            error = UpstreamTimeout() if is_late else UpstreamCut()
            is_whole = False
        else:
            is_whole = not received.is_too_long
            error = UpstreamUnknown(
                upstream_status=200, reason="the response is longer than max_response_bytes"
            )
        # After the deadline: what has come counts, however long this takes.
        reply = await _reply(received, is_whole, max_bytes, streamed)
        if reply is not None:
            return reply
        # Raised out here, so that it does not carry aiohttp's error.
        raise error

    async def _ask(
        self,
        body: bytes,
        headers: dict[str, str],
        settings: UpstreamSettings,
        received: _Received,
        streamed: StreamedAnswer,
    ) -> None:
        connect_seconds = min(settings.connect_seconds, settings.timeout_seconds)
        response = await self._session.post(
            URL(settings.url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
        )
        try:
            await _receive(response, settings.max_response_bytes, received, streamed)
        finally:
            response.close()


def _headers(api_key: str, request_id: str) -> dict[str, str]:
    """Return all headers of an upstream request. Of the client's there is only the request id.

    They ask for no compression: images are compressed already, and the size of an uncompressed
    response can be checked as it arrives.
    """
    return {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"image-gateway/{__version__}",
        "X-Request-Id": request_id,
    }


async def _receive(
    response: aiohttp.ClientResponse,
    max_bytes: int,
    received: _Received,
    streamed: StreamedAnswer,
) -> None:
    """Read a response to its end, or until nothing further in it counts."""
    received.status = response.status
    # A lookup by name returns the first of several values.
    received.headers = {name.lower(): response.headers[name] for name in response.headers}
    received.encoding = ",".join(response.headers.getall("Content-Encoding", ())).lower()
    may_be_stream = response.status == 200 and received.encoding in ("", "identity")
    is_stream = None if may_be_stream else False
    left = max_bytes
    try:
        async with asyncio.timeout(None) as grace:
            async for chunk in response.content.iter_any():
                received.chunks.append(chunk[:left])
                left -= len(chunk)
                received.is_too_long = left < 0
                if is_stream is None:
                    is_stream = are_events(b"".join(received.chunks), received.is_labelled)
                if is_stream:
                    received.is_stream = True
                    events, received.chunks = b"".join(received.chunks), []
                    await _feed(streamed, events)
                if left < 0 or streamed.is_over:
                    return
                if streamed.has_all and grace.when() is None:
                    grace.reschedule(asyncio.get_running_loop().time() + GRACE_SECONDS)
    except TimeoutError:
        if not grace.expired():
            raise


async def _feed(streamed: StreamedAnswer, chunk: bytes) -> None:
    """Take the next bytes of a stream. Its large events are read in a thread."""
    streamed.feed(chunk)
    while streamed.unread:  # one by one: a deadline may end this in between
        if streamed.is_slow():
            streamed.take(await asyncio.to_thread(streamed.found))
        else:
            streamed.take(streamed.found())


async def _reply(
    received: _Received, is_whole: bool, max_bytes: int, streamed: StreamedAnswer
) -> Reply | None:
    """Return the reply, or None if the response broke off, or was too long, and so is worth none.

    What a stream completed counts in any case.
    """
    body = await joined(received.chunks)
    text, is_inflated = await _inflated(body, received.encoding, max_bytes)
    if received.status == 200 and body and are_events(text, received.is_labelled):
        received.is_stream = True
        await _feed(streamed, text)
    if received.is_stream:
        if is_whole:
            await _feed(streamed, END)
        if not is_whole and not streamed.has_answer:
            return None
        answer = await asyncio.to_thread(streamed.answer)
        return Reply(200, {**received.headers, "content-type": "application/json"}, answer)
    if is_whole:
        return Reply(received.status, received.headers, text if is_inflated else body)
    # Any other status than 200 is clear without its body.
    is_clear = received.is_too_long and received.status != 200
    return Reply(received.status, received.headers, b"") if is_clear else None


async def _inflated(body: bytes, encoding: str, max_bytes: int) -> tuple[bytes, bool]:
    """Return the body inflated as far as it can be, and whether that is all of it.

    It is returned as it is if it does not have the encoding of its header: the header may be wrong,
    and the body readable all the same.
    """
    if body.startswith(GZIP_MAGIC):
        encoding = "gzip"
    if encoding not in ("", "identity"):
        with suppress(ValueError):
            text, is_all = await asyncio.to_thread(inflate, body, encoding, max_bytes)
            return (text, is_all) if text or is_all else (body, False)
    return body, False


class _Watch:
    """The deadline of a call, and the look whether its connection is still there.

    aiohttp wakes a call whose connection was lost. But it does not if memory runs out in that very
    moment, and then the call would wait until its deadline.
    """

    def __init__(self, timer: Deadline, seconds: float) -> None:
        self._timer = timer
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + seconds
        self._next: asyncio.TimerHandle | None = None
        self.found_lost = False

    def begin(self, connection: Connection) -> None:
        """Begin to count, and to look."""
        self._timer.start(self._ends - self._loop.time())
        self._look_soon(connection.protocol, was_lost=False)

    def end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None  # its context may refer to this call

    def _look_soon(self, protocol: ResponseHandler | None, was_lost: bool) -> None:
        self._next = self._loop.call_later(LOOK_SECONDS, self._look, protocol, was_lost)

    def _look(self, protocol: ResponseHandler | None, was_lost: bool) -> None:
        is_lost = protocol is None or protocol.transport is None
        if is_lost and was_lost:  # twice: the call has had a second to notice
            self.found_lost = True
            self._timer.expire()
        else:
            self._look_soon(protocol, is_lost)


_connected: ContextVar[Callable[[Connection], object]] = ContextVar("connected")
"""The callback of a call for the moment when it has its connection."""


class _Connector(aiohttp.TCPConnector):
    """Notifies each call of its connection.

    aiohttp's tracing could do that too, but takes a sixth of the CPU time of a call.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _connected.get()(connection)
        return connection


def _probed_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every platform lets a program set the interval.
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if (number := getattr(socket, option, None)) is not None:
            opened.setsockopt(socket.IPPROTO_TCP, number, PROBE_SECONDS)
    return opened
