"""The HTTP server of a port: bounded headers, and errors that repeat nothing of a request.

It uses aiohttp's low-level server instead of its `Application`, because the request handler can
then answer and log with our own words. By default, aiohttp repeats and logs requests that its
parser cannot read, including raw Authorization values.

aiohttp closes idle connections. But it waits just as long for the rest of a request head, and it
waits for ever for a client that does not read its answer. Once a second the port aborts both.

A client that sends many requests at once, and reads no answers, must not hold much: each connection
has at most `MAX_MSG_QUEUE_SIZE` requests in memory and `READ_BYTES` behind them. It handles no
further request while answers are unread, and its requests wait for `Turns`.

aiohttp queues a request that its parser refused behind the request in progress. If that one still
waits for the rest of its body, it would wait in vain: so `data_received` fails its body at once.

A chunked request is the last one on its connection. aiohttp's parser keeps the last trailer field
of a chunked body and makes it a header of the next request. Behind a balancer that reuses
connections, one client could thus set another's headers. So is a request with `Upgrade`, which is
answered like any other: the parser drops the bytes right behind it, perhaps half of a request.
"""

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from aiohttp import HttpVersion10, web, web_protocol
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from gateway.config.settings import ServerSettings
from gateway.core.errors import GatewayError, HeadersTooLarge, InternalError, InvalidRequest
from gateway.core.tasks import Background
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.web.acceptor import NO_CONNECTION_LIMITS, Acceptor, ConnectionLimits
from gateway.web.body import refuse_body
from gateway.web.file_reserve import FileReserve
from gateway.web.framing import framing_error
from gateway.web.pipelining import Turns
from gateway.web.responses import error_response, raw_error

log = structlog.get_logger(source="web")

CLOSING_SECONDS = 5.0
"""How long answers in progress may take when a port closes."""

SWEEP_SECONDS = 1.0
"""How often slow connections are looked for."""

LINGERING_SECONDS = 2.0
"""How long the rest of an unread body is read and dropped, so that its client gets the answer."""

ARRIVAL_SECONDS = 1.0
"""How long a new connection may wait for its first byte once no further ones are accepted."""

READ_AHEAD_BYTES = 16_384
"""How much of a body is buffered before it is read. aiohttp then stops at twice as much, or after
what the system delivered at once."""

MAX_LINE_BYTES = 8_192
MAX_FIELD_BYTES = 16_384
"""An 8 KB token still fits: it is answered as an unknown key, not as a broken request."""

MAX_HEAD_BYTES = 32_768
"""The limit of a whole request head that arrives in parts. An incomplete one takes twice its size
in memory. aiohttp only limits lines and their number: 2 MB together."""

UNSENT_BYTES = 8_192
"""When a connection has more unsent bytes, it handles no further request."""

# aiohttp has no argument for this. Its 32 requests for each connection, with bodies, are too many.
web_protocol.MAX_MSG_QUEUE_SIZE = 2

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Protocol(web.RequestHandler):
    """One connection, with our own words for the errors that aiohttp answers and logs itself."""

    __slots__ = (
        *("_head_bytes", "_head_since", "_idle_since", "_left", "_left_since", "_wire"),
        *("lost", "observer"),
    )

    observer: Observer
    lost: Callable[[asyncio.BaseProtocol], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request head."""
        self._wire = cast(asyncio.Transport, transport)
        self._head_bytes = 0
        self._head_since: float | None = self._loop.time()
        self._idle_since: float | None = None
        self._left, self._left_since = (0, 0), 0.0
        self._wire.set_write_buffer_limits(high=UNSENT_BYTES)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection as closed."""
        self.lost(self)
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of one."""
        return self._waiter is not None and not self._waiter.done()

    def _has_begun_a_head(self) -> bool:
        """Whether the first bytes of a request have come, or nothing yet on a new connection.

        They may have come together with the request before it. Only the parser knows, and only at
        the end of the connection.
        """
        if self._head_since is not None or self._parser is None:
            return True
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - of any kind: it stopped in the middle of something
            return True

    @property
    def is_busy(self) -> bool:
        """Whether more requests wait behind the current one, or answers before it are unread."""
        return bool(self._messages) or self.writing_paused

    async def written(self) -> None:
        """Wait until the client has read former answers."""
        await self._drain_helper()

    def end_if_slow(self, now: float, settings: ServerSettings) -> None:
        """Abort a connection whose head, or whose client's reading, takes too long."""
        since = self._head_since
        if since is None:
            since = self._idle_since = (self._idle_since or now) if self.is_idle else None
        if since is not None and now - since > settings.head_seconds and self._has_begun_a_head():
            self.report_unreadable("invalid_http", "too slow")
            self._wire.abort()
        served = self._current_request
        # Neither the buffer nor the answer moves if the client reads nothing.
        left = self._wire.get_write_buffer_size(), served.writer.output_size if served else 0
        if left != self._left:
            self._left, self._left_since = left, now
        elif left[0] and now - self._left_since > settings.unread_seconds:
            self._wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that the parser refused (400, 431), or a defect (500)."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was already under way")
        error = _parser_error(status, exc)
        if not isinstance(error, InternalError):
            self.report_unreadable(error.code, type(exc).__name__)
        return _last_response(error)

    def report_unreadable(self, code: str, cause: str) -> None:
        """Log and count a request that no handler sees."""
        log.info("request unreadable", code=code, cause=cause)
        self.observer.request_unreadable(code)

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the client. A head above the limit ends the connection."""
        super().data_received(data)
        served = self._current_request
        # The head is incomplete. A new connection is not idle yet while its first bytes arrive.
        if self.is_idle or not self._request_count:
            self._head_bytes += len(data)
            self._head_since = self._head_since or self._loop.time()
            if self._head_bytes > MAX_HEAD_BYTES:
                self.report_unreadable(HeadersTooLarge.code, "too long")
                self._refuse_head()
                self.force_close()
            return
        self._head_bytes = 0
        self._head_since = None
        if served is None or served.content.is_eof() or not self._messages:
            return
        # A message can only follow a complete body: this one is the parser's error about the body.
        served.content.set_exception(RequestPayloadError())

    def _refuse_head(self) -> None:
        """Answer an incomplete head, for which aiohttp has no request yet."""
        if self.transport is not None:
            self.transport.write(raw_error(HeadersTooLarge(), {}))

    def leave(self, now: float) -> None:
        """Close the connection if it is idle. Otherwise its current answer is the last one.

        aiohttp's `close` is no use here: it drops the rest of a request that is arriving, and then
        waits for it. A connection that was accepted just now gets a moment for its first byte.
        """
        served, since = self._current_request, self._head_since
        if served is not None:
            _end_after(served)
        elif not self.is_idle or self._head_bytes:
            return  # a request is arriving, or the rest of one is dropped
        elif since is None or now - since > ARRIVAL_SECONDS:
            self.force_close()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log that a connection failed, without the values that aiohttp would print."""
        failure = kw.get("exc_info")
        if not isinstance(failure, RequestPayloadError):  # that one is answered and logged already
            log.warning("connection failed", exc_info=failure)

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Log nothing: these lines are about clients that left, and may contain their data."""


def _end_after(request: web.BaseRequest) -> None:
    """Make this the last request of its connection, which the answer says."""
    request._message = request._message._replace(should_close=True)


def _last_response(error: GatewayError) -> web.Response:
    """The answer to an error after which the connection is closed."""
    response = error_response(error)
    response.force_close()
    return response


def _parser_error(status: int, exc: BaseException | None) -> GatewayError:
    if isinstance(exc, LineTooLong):
        return HeadersTooLarge()
    if status == 400:
        return InvalidRequest("The request is not valid HTTP.", code="invalid_http")
    log.error("request failed", exc_info=exc)
    return InternalError()


class _Server(web.Server):
    """Makes a `_Protocol` for each connection."""

    lost: Callable[[asyncio.BaseProtocol], None]

    def __init__(self, handler: Handler, settings: ServerSettings, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._handler = handler
        self.leaving = False  # whether each connection ends with its next answer
        self.refusing = False  # whether no new connections are accepted, so that idle ones close
        self._turns = Turns(asyncio.get_running_loop())
        super().__init__(
            self._handle,
            request_factory=self._request,
            # A client that hangs up ends its wait. What it buys goes on in a task of its own.
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # gateway.web.inflate has limits
            keepalive_timeout=settings.keepalive_seconds,
            lingering_time=LINGERING_SECONDS,
            read_bufsize=READ_AHEAD_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        if isinstance(protocol, _Protocol) and protocol.is_busy:
            await protocol.written()
            await self._turns.wait()
        if self.leaving:
            _end_after(request)
        error = framing_error(request._message)
        if error is None:
            return await self._handler(request)
        if isinstance(protocol, _Protocol):
            protocol.report_unreadable(error.code, "framing")
        request._version = HttpVersion10  # like the parser's errors: not the version of the request
        return _last_response(error)

    def _request(self, message: RawRequestMessage, *parts: Any) -> web.BaseRequest:
        """Make the request, the last one of its connection if it is chunked or has Upgrade."""
        if message.chunked or message.upgrade:
            message = message._replace(should_close=True)
        return self._make_request(message, *parts)

    async def end_slow_connections(self) -> None:
        """Abort the connections that take too long, and in a shutdown close the idle ones."""
        if self.refusing:
            self.close_idle()
        now = self._loop.time()
        for protocol in self.connections:
            if isinstance(protocol, _Protocol):
                protocol.end_if_slow(now, self._settings)

    def close_idle(self) -> None:
        """Close the idle connections, and the others after their current answers."""
        self.leaving = self.refusing = True
        now = self._loop.time()
        for protocol in self.connections:
            if isinstance(protocol, _Protocol):
                protocol.leave(now)

    def __call__(self) -> web.RequestHandler:
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.observer = self._observer
        protocol.lost = self.lost
        return protocol


class Listener:
    """A port whose requests `handler` answers.

    `settings` bound the time of handshakes, request heads, unread answers and idle connections,
    `limits` the connections. `observer` receives the requests that the parser refused, and the
    refused connections. `reserve` and `essential`: see `Acceptor`.
    """

    def __init__(
        self,
        handler: Handler,
        settings: ServerSettings,
        limits: ConnectionLimits = NO_CONNECTION_LIMITS,
        *,
        reserve: FileReserve | None = None,
        essential: bool = False,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self.limits = limits
        self._settings = settings
        self._server = _Server(handler, settings, observer)
        self._acceptor = Acceptor(
            self._server, limits, reserve or FileReserve(0), observer, essential=essential
        )
        self._server.lost = self._acceptor.lost
        self._sweep = Background("http")
        self._sweeps = False

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._acceptor.connections

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen, here too if it listens already, and return the URL.

        Raises OSError, which `bind_error` explains.
        """
        settings = self._settings
        bound_host, bound_port = await self._acceptor.listen(
            host, port, tls, settings.handshake_seconds
        )
        if not self._sweeps:
            shortest = min(SWEEP_SECONDS, settings.head_seconds / 2, settings.unread_seconds / 2)
            self._sweep.every(shortest, self._look)
            self._sweeps = True
        name = f"[{bound_host}]" if ":" in bound_host else bound_host
        return f"{'https' if tls else 'http'}://{name}:{bound_port}"

    def end_keepalive(self) -> None:
        """Still accept connections, but close each one after its next answer."""
        self._server.leaving = True

    async def refuse_newcomers(self) -> None:
        """Accept no new connections, and close each open one once it is idle."""
        self._acceptor.stop()
        self._server.close_idle()

    async def close(self) -> None:
        """Close everything, and cut answers in progress after five seconds."""
        await self._sweep.close()
        await self._acceptor.close()
        self._server.pre_shutdown()
        for protocol in self._server.connections:
            refuse_body(protocol._current_request)
        await self._server.shutdown(CLOSING_SECONDS)

    async def _look(self) -> None:
        self._acceptor.look(asyncio.get_running_loop().time())
        await self._server.end_slow_connections()


def reachable(url: str) -> str:
    """Return a URL to call: where the port listens on all addresses, the one of loopback."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//127.0.0.1:")


def bind_error(
    error: OSError,
    host: str,
    port: int,
    choice: str = "another port (GATEWAY_SERVER_PORT, GATEWAY_SERVER_ADMIN_PORT)",
) -> str:
    """Explain why binding to the address failed. `choice` names the options to change it."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop the program that listens there, or choose "
            f"{choice}."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror}."
