"""One handler behind the gateway's own HTTP server, on a free port of loopback."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.web.http_server import KEEPALIVE_SECONDS, GatewayServer, Handler


@asynccontextmanager
async def serving(
    handler: Handler, *, keepalive_seconds: float = KEEPALIVE_SECONDS
) -> AsyncIterator[str]:
    """Serve until the block ends; the URL is given."""
    server = GatewayServer(handler, keepalive_seconds=keepalive_seconds)
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
