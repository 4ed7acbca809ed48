"""The paid API over HTTP: one call is at most one request on the wire.

- Nothing is sent twice: aiohttp repeats idempotent methods alone, and redirects are not followed.
- What failed before a connection was there is free. All that fails later is charged as unknown,
  even where most likely nothing was drawn.
- Each call has a connection of its own. One that is used again may be closed by the upstream just
  as the request goes out, which would have to be charged; and what an upstream says on an idle
  one (some say 408), aiohttp takes as the answer to the next request, another team's perhaps.
  Tried: both happen. A connection costs 0.1 ms of CPU, 0.8 ms with TLS, before seconds of drawing.
- The request goes out as it is: nothing is taken from the environment, no cookies, no change to
  the URL.
- aiohttp's errors stay here: they hold the request's headers, and so the key.
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
from gateway.upstream.headers import upstream_headers
from gateway.upstream.port import NO_TRACE, Reply

log = structlog.get_logger(source="upstream")

PROBE_SECONDS = 30
"""How often TCP shows that a silent connection lives. A picture takes minutes, and routers on the
way forget connections that say nothing."""

_NOTHING_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""No address, no connection, no TLS, or none of it in time."""


class HttpUpstream(Service):
    """Whichever upstream the settings of a call name: it keeps none of them.

    Connecting takes at most `connect_seconds`, and a call at most `timeout_seconds`, connecting
    included. A response has at most `max_response_bytes`, on the wire and inflated.
    """

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply:
        """See `gateway.upstream.port.Upstream`."""
        headers = {**upstream_headers(settings.key, request_id), **trace}
        ends = asyncio.get_running_loop().time() + settings.timeout_seconds
        error: UpstreamError
        try:
            # Runs from the moment there is a connection: until then the connector has its own.
            async with asyncio.timeout(None) as timer:
                on_connected = _connected.set(partial(timer.reschedule, ends))
                try:
                    return await self._ask(body, headers, settings)
                finally:
                    # A task that holds itself by its context would keep its answer's megabytes.
                    _connected.reset(on_connected)
        except _NOTHING_SENT as failure:
            cause, detail = why_unreachable(failure)
            log.warning("upstream unreachable", id=request_id, cause=cause, detail=detail)
            error = UpstreamUnreachable()
        except (aiohttp.ClientError, OSError):  # a TimeoutError is an OSError
            error = UpstreamTimeout() if timer.expired() else UpstreamCut()
        # Raised out here so that it does not carry aiohttp's error.
        raise error

    async def close(self) -> None:
        """Close all connections: calls under way end as cut off."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, body: bytes, headers: dict[str, str], settings: UpstreamSettings) -> Reply:
        connect_seconds = min(settings.connect_seconds, settings.timeout_seconds)
        response = await self._open_session().post(
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

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, force_close=True, socket_factory=_probed_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Reply:
    try:
        body = await _read_body(response, max_bytes)
    except ValueError:
        # Any status but a success tells what became of the request even without its body.
        if response.status == 200:
            raise UpstreamUnknown from None
        body = b""
    # Looked up by name, which gives the first of several.
    headers = {name.lower(): response.headers[name] for name in response.headers}
    return Reply(response.status, headers, body)


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body, inflated. Raises ValueError where it is too long or unreadable."""
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
"""What a call does as soon as it has its connection."""


class _Connector(aiohttp.TCPConnector):
    """Tells each call of its connection. aiohttp's tracing does too, for a sixth of all the CPU
    that a call takes."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _connected.get()()
        return connection


def _probed_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Not every platform lets a program say how often.
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if (number := getattr(socket, option, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, number, PROBE_SECONDS)
    return made
