"""The admin port: health checks, metrics for Prometheus, the admin API and the dashboard."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import cast

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from gateway.config.settings import AdminSettings
from gateway.core.errors import AdminOff, GatewayError, InternalError
from gateway.core.headers import request_id
from gateway.tenants.changes import Actor
from gateway.web.admin.http import API, HEADERS, AdminHandler, AdminRequest, AdminRoute, answer
from gateway.web.admin.pages import dashboard_routes, openapi_pages, pages
from gateway.web.admin.sessions import Sessions, require_role
from gateway.web.openapi import ADMIN, DocumentedPort
from gateway.web.query import read_query
from gateway.web.responses import error_body
from gateway.web.routes import Match, Router, routes_of

log = structlog.get_logger(source="admin")


@dataclass(eq=False)
class AdminApi:
    """Handles every request of the admin port: the server calls `handle`.

    `not_ready` returns the reason, or None. `admin` returns the current tokens, `wall` the time,
    `new_id` a new id. `api` are the routes of the admin API; `public` is the other port, which the
    OpenAPI document describes too. The pepper signs the dashboard's sessions.
    """

    registry: CollectorRegistry
    not_ready: Callable[[], str | None]
    admin: Callable[[], AdminSettings]
    api: Sequence[AdminRoute]
    public: DocumentedPort
    _: KW_ONLY
    wall: Callable[[], float]
    pepper: bytes
    new_id: Callable[[], str]

    def __post_init__(self) -> None:
        self._sessions = Sessions(self.admin, self.pepper, self.wall, time.monotonic)
        metrics = _in_a_thread(make_aiohttp_handler(self.registry))
        self.routes = [
            *pages("/healthz", self._healthz),
            *pages("/readyz", self._readyz),
            *pages("/metrics", metrics, methods=("GET",)),
            *routes_of(self._sessions, API),
            *self.api,
            *dashboard_routes(self.admin),
        ]
        own = DocumentedPort(url="/", security=ADMIN, routes=self.routes)
        self._router = Router([*self.routes, *openapi_pages(self.admin, [own, self.public])])

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Errors have the same shape as on the public port."""
        id = request_id(request.headers.get("X-Request-Id"), self.new_id)
        response = await self._answer(request, id)
        if not response.prepared:
            response.headers.setdefault("X-Request-Id", id)
        return response

    async def _answer(self, request: web.BaseRequest, id: str) -> web.StreamResponse:
        try:
            return await self._serve(request)
        except GatewayError as error:
            return _failed(error)
        except Exception as defect:  # of any kind: the client gets our error without a detail
            log.exception("admin request failed", request_id=id, exc_info=defect)
            return _failed(InternalError())

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path.startswith(f"{API}/") and not self.admin().all_tokens:
            raise AdminOff
        match = self._router.match(path)
        if _is_open(match, path):
            anybody = Actor("anybody", self.wall())
            call = AdminRequest(request, anybody, match.params, None)
            return await _respond(match.route(request.method), call)
        # Before the look-up of the method: without a token nobody learns which routes there are.
        visit = self._sessions.visit(request)
        token = visit.token if visit else self._sessions.authenticate(request)
        route = match.route(request.method)
        require_role(token, route)
        by = Actor(f"admin token {token.name}", self.wall())
        query = read_query(request.rel_url.query, route.query)
        response = await _respond(route, AdminRequest(request, by, match.params, query))
        if visit is not None:
            self._sessions.renew(visit, response)
        return response

    async def _healthz(self, call: AdminRequest) -> web.Response:
        """Alive. It does not ask the store, so that an outage of the store restarts no gateway."""
        return web.json_response({"status": "alive"})

    async def _readyz(self, call: AdminRequest) -> web.Response:
        """Ready to buy.

        With `?exclude=store` (the syntax of Kubernetes' own servers) it is also ready while the
        store is away, because the gateway still serves cache hits.
        """
        reason = self.not_ready()
        excluded = call.request.query.getall("exclude", ())
        if reason is None or (reason == "store_unavailable" and "store" in excluded):
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)


async def _respond(route: AdminRoute, call: AdminRequest) -> web.StreamResponse:
    result = await route.handler(call)
    return result if isinstance(result, web.StreamResponse) else answer(result, route.status)


def _is_open(match: Match[AdminRequest], path: str) -> bool:
    """Whether a path needs no token. Unknown paths of the API need one."""
    if match.methods:
        return all(route.is_open for route in match.methods.values())
    return not path.startswith(f"{API}/")


def _in_a_thread(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AdminHandler:
    """Run Prometheus' handler in a thread, one at a time.

    It never awaits, and takes 0.2 s with a thousand teams: requests must go on meanwhile. Several
    at a time would compete with them for the interpreter.
    """
    turn = asyncio.Lock()

    async def handle(call: AdminRequest) -> web.StreamResponse:
        async def collect() -> web.StreamResponse:
            # The handler reads nothing that the low-level server's request lacks.
            return await handler(cast(web.Request, call.request))

        async with turn:
            return await asyncio.to_thread(lambda: asyncio.run(collect()))

    return handle


def _failed(error: GatewayError) -> web.Response:
    headers = {**HEADERS, **error.headers}
    return web.Response(status=error.status, body=error_body(error), headers=headers)
