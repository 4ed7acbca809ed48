"""One handler behind the gateway's own HTTP server, on a free port of loopback."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.config.settings import ServerSettings
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.web.acceptor import NO_CONNECTION_LIMITS, ConnectionLimits
from gateway.web.http_server import Handler, Listener


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    limits: ConnectionLimits = NO_CONNECTION_LIMITS,
    observer: Observer = NO_OBSERVER,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[str]:
    """Serve with these settings of [server] until the block ends; the URL is given."""
    listener = Listener(handler, ServerSettings(**settings), limits, observer=observer)
    try:
        yield await listener.open(host, 0, tls)
    finally:
        await listener.close()
