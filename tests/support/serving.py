"""One handler behind the gateway's own HTTP server, on a free port of loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.config.settings import ServerSettings
from gateway.web.http_server import Handler, Listener


@asynccontextmanager
async def serving(handler: Handler, **settings: Any) -> AsyncIterator[str]:
    """Serve with these settings of [server] until the block ends; the URL is given."""
    listener = Listener(handler, ServerSettings(**settings))
    try:
        yield await listener.open("127.0.0.1", 0)
    finally:
        await listener.close()
