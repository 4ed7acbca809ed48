"""A port that the gateway listens on: opening, refusing new connections, closing."""

import errno
import ssl

from aiohttp import web

from gateway.web.http_server import GatewayServer

BACKLOG = 4_096
"""Connections that may wait to be accepted, so that the kernel refuses none in a burst."""


class Listener:
    """A port with its server. `close` waits `closing_seconds` for answers in progress."""

    def __init__(self, server: GatewayServer, *, closing_seconds: float) -> None:
        self._server = server
        self._runner = web.ServerRunner(server, shutdown_timeout=closing_seconds)

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen, and return the URL. Raises OSError, which `bind_error` explains."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=BACKLOG, ssl_context=tls).start()
        bound_host, bound_port = self._runner.addresses[0][:2]
        name = f"[{bound_host}]" if ":" in bound_host else bound_host
        return f"{'https' if tls else 'http'}://{name}:{bound_port}"

    async def refuse_newcomers(self) -> None:
        """Accept no new connections, and close each open one once it is idle."""
        for site in list(self._runner.sites):
            await site.stop()
        self._server.leave_connections()

    async def close(self) -> None:
        """Close everything, and cut answers in progress after `closing_seconds`."""
        await self._runner.cleanup()


def bind_error(error: OSError, host: str, port: int) -> str:
    """Explain why binding to the address failed."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use: stop the program that listens there, or choose "
            "another port (GATEWAY_SERVER_PORT, GATEWAY_SERVER_ADMIN_PORT)."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror}."
