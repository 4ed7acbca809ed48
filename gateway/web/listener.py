"""A port that the gateway listens on: opened, closed to newcomers, and closed for good."""

import errno
import ssl

from aiohttp import web

from gateway.web.http_server import GatewayServer

BACKLOG = 4_096
"""Connections that may wait to be accepted: a burst must not be refused by the kernel."""


class Listener:
    """A port with its server. `closing_seconds` is what answers under way have left in `close`."""

    def __init__(self, server: GatewayServer, *, closing_seconds: float) -> None:
        self._server = server
        self._runner = web.ServerRunner(server, shutdown_timeout=closing_seconds)

    async def open(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
        """Listen, and tell the URL. Raises OSError, which `why_not` puts in words."""
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=BACKLOG, ssl_context=tls).start()
        bound_host, bound_port = self._runner.addresses[0][:2]
        name = f"[{bound_host}]" if ":" in bound_host else bound_host
        return f"{'https' if tls else 'http'}://{name}:{bound_port}"

    async def refuse_newcomers(self) -> None:
        """Take no further connections and close those that are idle; what is asked is answered."""
        for site in list(self._runner.sites):
            await site.stop()
        self._server.leave_connections()

    async def close(self) -> None:
        """Close everything, answers under way after `closing_seconds`."""
        await self._runner.cleanup()


def why_not(error: OSError, host: str, port: int) -> str:
    """Why it could not be listened there."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken: stop what listens there, or choose another one "
            "(GATEWAY_SERVER_PORT, GATEWAY_SERVER_ADMIN_PORT)."
        )
    return f"Cannot listen on {host} port {port}: {error.strerror}."
