"""The HTTP server under both ports: exact routes, bounded headers, and no echo of what came in.

aiohttp's low-level server is used, not its `Application`: two handfuls of exact paths need no
router, and its request handler can be told to answer and log in our own words. As it comes, it
repeats and logs what its parser could not read, raw Authorization values included.

Slow headers are bounded by `KEEPALIVE_SECONDS`: aiohttp closes a connection that has no complete
request head that long after it was opened or last used.

aiohttp queues what its parser refused behind the request that is being served. If that request
still waits for the body that broke off there, it would wait in vain: so its body is failed at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from gateway.core.errors import (
    GatewayError,
    HeadersTooLarge,
    InternalError,
    InvalidRequest,
)
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.web.responses import error_body, error_response

log = structlog.get_logger(source="web")

KEEPALIVE_SECONDS = 75.0
LINGERING_SECONDS = 2.0
MAX_LINE_BYTES = 8_192
MAX_FIELD_BYTES = 16_384
"""Above an 8 KB token: that one is answered as an unknown key, not as a broken request."""

MAX_HEAD_BYTES = 65_536
"""All of a request's head: aiohttp bounds each line and their number, which makes 2 MB together."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Protocol(web.RequestHandler):
    """One connection, with our own words for what aiohttp would answer and log itself."""

    __slots__ = ("_head_bytes", "observer")

    observer: Observer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self._head_bytes = 0
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what the parser refused (400, 431), or to a defect (500)."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was already under way")
        error = _parser_error(status, exc)
        if not isinstance(error, InternalError):
            self._tell_unreadable(error.code, type(exc).__name__)
        response = error_response(error)
        response.force_close()
        return response

    def _tell_unreadable(self, code: str, cause: str) -> None:
        log.info("request unreadable", code=code, cause=cause)
        self.observer.request_unreadable(code)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client; a head that grows without an end ends the connection."""
        super().data_received(data)
        served = self._current_request
        if self._waiter is not None and not self._waiter.done():  # there is no whole head yet
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._tell_unreadable(HeadersTooLarge.code, "too long")
                self._refuse_head()
                self.force_close()
            return
        self._head_bytes = 0
        if served is None or served.content.is_eof() or not self._messages:
            return
        # A whole message can follow only a whole body: this is the refusal of what did not.
        served.content.set_exception(RequestPayloadError())

    def _refuse_head(self) -> None:
        """Answer a head that has no end yet, which aiohttp has no request for."""
        if self.transport is not None:
            body = error_body(HeadersTooLarge())
            head = (
                f"HTTP/1.1 {HeadersTooLarge.status} Request Header Fields Too Large\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)

    def leave(self) -> None:
        """Close the connection: at once if nothing is asked, otherwise after the answer."""
        idle = self._waiter is not None and not self._waiter.done()
        self.close()
        if idle and self.transport is not None:  # aiohttp itself leaves it open, and deaf
            self.transport.close()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log that a connection failed, without the values aiohttp would print."""
        failure = kw.get("exc_info")
        if not isinstance(failure, RequestPayloadError):  # a broken body: answered and logged
            log.warning("connection failed", exc_info=failure)

    def log_debug(self, *args: Any, **kw: Any) -> None:
        """Nothing: these lines tell of clients that left, and may hold what they sent."""


def _parser_error(status: int, exc: BaseException | None) -> GatewayError:
    if isinstance(exc, LineTooLong):
        return HeadersTooLarge()
    if status == 400:
        return InvalidRequest("The request is not valid HTTP.", code="invalid_http")
    log.error("request failed", exc_info=exc)
    return InternalError()


class GatewayServer(web.Server):
    """A server whose connections are `_Protocol`s, for `aiohttp.web.ServerRunner`.

    `keepalive_seconds` bounds an idle connection, and one whose request head comes too slowly.
    `observer` receives the requests that the parser refused.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._observer = observer
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=keepalive_seconds,
            lingering_time=LINGERING_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )

    def leave_connections(self) -> None:
        """Close all connections, each once what is asked on it is answered."""
        for protocol in self.connections:
            if isinstance(protocol, _Protocol):
                protocol.leave()

    def __call__(self) -> web.RequestHandler:
        protocol = _Protocol(self, loop=self._loop, **self._kwargs)
        protocol.observer = self._observer
        return protocol
