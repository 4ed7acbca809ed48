"""One handler behind the gateway's own HTTP server, on a free port of loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.web.http_server import KEEPALIVE_SECONDS, Handler, Listener


@asynccontextmanager
async def serving(
    handler: Handler, *, keepalive_seconds: float = KEEPALIVE_SECONDS
) -> AsyncIterator[str]:
    """Serve until the block ends; the URL is given."""
    listener = Listener(handler, keepalive_seconds=keepalive_seconds)
    try:
        yield await listener.open("127.0.0.1", 0)
    finally:
        await listener.close()
