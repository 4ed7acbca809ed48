"""The admin port: health for the orchestrator and metrics for Prometheus."""

from collections.abc import Callable
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from gateway.errors import GatewayError
from gateway.web.render import error_response
from gateway.web.server import Handler, find_handler


class AdminApi:
    """Handles every request of the admin port. `not_ready` gives the reason, or None."""

    def __init__(self, registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> None:
        self._not_ready = not_ready
        # Its handler reads nothing of a request that the low-level server's lacks.
        metrics = cast(Handler, make_aiohttp_handler(registry))
        self._routes: dict[str, dict[str, Handler]] = {
            "/healthz": {"GET": self._healthz, "HEAD": self._healthz},
            "/readyz": {"GET": self._readyz, "HEAD": self._readyz},
            "/metrics": {"GET": metrics},
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; what is unknown here is told in the public port's shape."""
        try:
            return await find_handler(self._routes, request)(request)
        except GatewayError as error:
            return error_response(error)

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        """Alive: knows no store, so that a store's outage restarts nobody."""
        return web.json_response({"status": "alive"})

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        reason = self._not_ready()
        if reason is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)
