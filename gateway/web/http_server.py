"""The HTTP server of a port: bounded headers, and errors that repeat nothing of a request.

It uses aiohttp's low-level server instead of its `Application`, because the request handler can
then answer and log with our own words. By default, aiohttp repeats and logs requests that its
parser cannot read, including raw Authorization values.

aiohttp closes idle connections. But it waits just as long for the rest of a request head, and it
waits for ever for a client that does not read its answer. So once a second the port looks for both,
and aborts these connections.

aiohttp queues a request that its parser refused behind the request in progress. If that one still
waits for the rest of its body, it would wait in vain: so `data_received` fails its body at once.

A chunked request is the last one on its connection. aiohttp's parser keeps the last trailer field
of a chunked body and makes it a header of the next request. Behind a balancer that reuses
connections, one client could thus set another's headers. Requests that follow are not read.
"""

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from gateway.config.settings import ServerSettings
from gateway.core.errors import GatewayError, HeadersTooLarge, InternalError, InvalidRequest
from gateway.core.tasks import Background
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.web.framing import framing_error
from gateway.web.responses import error_body, error_response

log = structlog.get_logger(source="web")

BACKLOG = 4_096
"""Connections that may wait to be accepted, so that the kernel refuses none in a burst."""

CLOSING_SECONDS = 5.0
"""How long answers in progress may take when a port closes."""

SWEEP_SECONDS = 1.0
"""How often slow connections are looked for."""

LINGERING_SECONDS = 2.0
"""How long the rest of an unread body is read and dropped, so that its client gets the answer."""

MAX_LINE_BYTES = 8_192
MAX_FIELD_BYTES = 16_384
"""An 8 KB token still fits: it is answered as an unknown key, not as a broken request."""

MAX_HEAD_BYTES = 65_536
"""The limit of a whole request head. aiohttp only limits lines and their number: 2 MB together."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Protocol(web.RequestHandler):
    """One connection, with our own words for the errors that aiohttp answers and logs itself."""

    __slots__ = ("_head_bytes", "_head_since", "_left", "_left_since", "_wire", "observer")

    observer: Observer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request head."""
        self._wire = cast(asyncio.Transport, transport)
        self._head_bytes = 0
        self._head_since: float | None = self._loop.time()
        self._left, self._left_since = (0, 0), 0.0
        super().connection_made(transport)

    def end_if_slow(self, now: float, settings: ServerSettings) -> None:
        """Abort a connection whose head, or whose client's reading, takes too long."""
        if self._head_since is not None and now - self._head_since > settings.head_seconds:
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
        if self._waiter is not None and not self._waiter.done():  # the head is incomplete
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
            body = error_body(HeadersTooLarge())
            head = (
                f"HTTP/1.1 {HeadersTooLarge.status} Request Header Fields Too Large\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)

    def leave(self) -> None:
        """Close the connection: at once if it is idle, otherwise after the answer."""
        idle = self._waiter is not None and not self._waiter.done()
        self.close()
        if idle and self.transport is not None:
            self.transport.close()  # aiohttp leaves it open, but no longer reads from it

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log that a connection failed, without the values that aiohttp would print."""
        failure = kw.get("exc_info")
        if not isinstance(failure, RequestPayloadError):  # that one is answered and logged already
            log.warning("connection failed", exc_info=failure)

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Log nothing: these lines are about clients that left, and may contain their data."""


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

    def __init__(self, handler: Handler, settings: ServerSettings, observer: Observer) -> None:
        self._settings = settings
        self._observer = observer
        self._handler = handler
        super().__init__(
            self._handle,
            request_factory=self._request,
            # A client that hangs up ends its wait. What it buys goes on in a task of its own.
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,  # compressed bodies are refused
            keepalive_timeout=settings.keepalive_seconds,
            lingering_time=LINGERING_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        error = framing_error(request._message)
        if error is None:
            return await self._handler(request)
        if isinstance(request.protocol, _Protocol):
            request.protocol.report_unreadable(error.code, "framing")
        return _last_response(error)

    def _request(self, message: RawRequestMessage, *parts: Any) -> web.BaseRequest:
        """Make the request, the last one of its connection if its body is chunked."""
        if message.chunked:
            message = message._replace(should_close=True)
        return self._make_request(message, *parts)

    async def end_slow_connections(self) -> None:
        """Abort the connections that take too long."""
        now = self._loop.time()
        for protocol in self.connections:
            if isinstance(protocol, _Protocol):
                protocol.end_if_slow(now, self._settings)

    def __call__(self) -> web.RequestHandler:
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.observer = self._observer
        return protocol


class Listener:
    """A port whose requests `handler` answers.

    `settings` bound the time of handshakes, request heads, unread answers and idle connections.
    `observer` receives the requests that the parser refused.
    """

    def __init__(
        self, handler: Handler, settings: ServerSettings, *, observer: Observer = NO_OBSERVER
    ) -> None:
        self._settings = settings
        self._server = _Server(handler, settings, observer)
        self._listening: asyncio.Server | None = None
        self._sweep = Background("http")

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen, and return the URL. Raises OSError, which `bind_error` explains."""
        settings = self._settings
        self._listening = await asyncio.get_running_loop().create_server(
            self._server,
            host,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=settings.handshake_seconds if tls else None,
        )
        shortest = min(SWEEP_SECONDS, settings.head_seconds / 2, settings.unread_seconds / 2)
        self._sweep.every(shortest, self._server.end_slow_connections)
        bound_host, bound_port = self._listening.sockets[0].getsockname()[:2]
        name = f"[{bound_host}]" if ":" in bound_host else bound_host
        return f"{'https' if tls else 'http'}://{name}:{bound_port}"

    async def refuse_newcomers(self) -> None:
        """Accept no new connections, and close each open one once it is idle."""
        if self._listening is not None:
            self._listening.close()
        for protocol in self._server.connections:
            if isinstance(protocol, _Protocol):
                protocol.leave()

    async def close(self) -> None:
        """Close everything, and cut answers in progress after five seconds."""
        await self._sweep.close()
        if self._listening is not None:
            self._listening.close()
            await asyncio.sleep(0)  # connections that were accepted just now begin to be served
        self._server.pre_shutdown()
        await self._server.shutdown(CLOSING_SECONDS)


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
