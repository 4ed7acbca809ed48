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
from contextvars import ContextVar
from functools import partial

import aiohttp
import structlog
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from gateway import __version__
from gateway.config.settings import UpstreamSettings
from gateway.core.connect_errors import why_unreachable
from gateway.core.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnknown,
    UpstreamUnreachable,
)
from gateway.core.tasks import Service
from gateway.upstream.decompress import inflate
from gateway.upstream.port import NO_TRACE, Reply

log = structlog.get_logger(source="upstream")

PROBE_SECONDS = 30
"""The interval of TCP keep-alive probes. An image takes minutes, and routers on the way drop silent
connections."""

_NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Failures of DNS, TCP or TLS, and their timeouts."""


class HttpUpstream(Service):
    """Calls the upstream that the settings of each call name.

    A connection takes at most `connect_seconds`, and the whole call at most `timeout_seconds`. A
    response has at most `max_response_bytes`, both on the wire and inflated.
    """

    async def start(self) -> None:
        """Make the session of all calls."""
        self._session = aiohttp.ClientSession(
            connector=_Connector(limit=0, force_close=True, socket_factory=_probed_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
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
    ) -> Reply:
        """See `gateway.upstream.port.Upstream`."""
        headers = {**_headers(settings.key, request_id), **trace}
        ends = asyncio.get_running_loop().time() + settings.timeout_seconds
        error: UpstreamError
        try:
            # This timer starts with the connection. Before that, the connector has its own.
            async with asyncio.timeout(None) as timer:
                on_connected = _connected.set(partial(timer.reschedule, ends))
                try:
                    return await self._ask(body, headers, settings)
                finally:
                    # Else the task's context refers to the task, which keeps its response alive.
                    _connected.reset(on_connected)
        except _NOTHING_SENT as failure:
            cause, detail = why_unreachable(failure)
            log.warning("upstream unreachable", id=request_id, cause=cause, detail=detail)
            error = UpstreamUnreachable()
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            error = UpstreamTimeout() if timer.expired() else UpstreamCut()
        # Raised out here, so that it does not carry aiohttp's error.
        raise error

    async def _ask(self, body: bytes, headers: dict[str, str], settings: UpstreamSettings) -> Reply:
        connect_seconds = min(settings.connect_seconds, settings.timeout_seconds)
        response = await self._session.post(
            URL(settings.url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_seconds),
        )
        try:
            return await _read(response, settings.max_response_bytes)
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


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Reply:
    try:
        body = await _read_body(response, max_bytes)
    except ValueError:
        # For any other status than 200 the outcome is clear without the body.
        if response.status == 200:
            raise UpstreamUnknown from None
        body = b""
    # A lookup by name returns the first of several values.
    headers = {name.lower(): response.headers[name] for name in response.headers}
    return Reply(response.status, headers, body)


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the whole body, inflated. Raises ValueError if it is too long or unreadable."""
    chunks: list[bytes] = []
    room = max_bytes
    async for chunk in response.content.iter_any():
        room -= len(chunk)
        if room < 0:
            raise ValueError("too long")
        chunks.append(chunk)
    body = b"".join(chunks)
    encoding = ",".join(response.headers.getall("Content-Encoding", ())).lower()
    if encoding in ("", "identity"):
        return body
    return await asyncio.to_thread(inflate, body, encoding, max_bytes)


_connected: ContextVar[Callable[[], object]] = ContextVar("connected")
"""The callback of a call for the moment when it has its connection."""


class _Connector(aiohttp.TCPConnector):
    """Notifies each call of its connection.

    aiohttp's tracing could do that too, but takes a sixth of the CPU time of a call.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _connected.get()()
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
