"""The admin port: health for the orchestrator, metrics for Prometheus, the admin API and the
dashboard."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from gateway.config.settings import AdminSettings
from gateway.core.errors import Conflicting, GatewayError, InternalError, NoSuchThing
from gateway.core.headers import request_id
from gateway.tenants.operations import Actor, Missing, Refused
from gateway.web.admin import sessions
from gateway.web.admin.dashboard import Dashboard
from gateway.web.admin.routes import Asked, Route, Router, failure, read_query
from gateway.web.admin.sessions import AdminGate, Sessions, require_role
from gateway.web.http_server import Handler, find_handler
from gateway.web.responses import error_body

log = structlog.get_logger(source="admin")

API = "/admin/v1/"


class AdminApi:
    """Handles every request of the admin port.

    `not_ready` gives the reason, or None; `admin` the tokens of this moment; `wall` the time;
    `new_id` an id never given before. `pages` are further paths that need no token; the pepper
    signs the dashboard's sessions.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready: Callable[[], str | None],
        admin: Callable[[], AdminSettings],
        routes: Sequence[Route],
        *,
        wall: Callable[[], float],
        pepper: bytes,
        new_id: Callable[[], str],
        pages: Mapping[str, Handler] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._not_ready = not_ready
        self._gate = AdminGate(admin, clock)
        self._sessions = Sessions(admin, pepper, wall=wall, clock=clock)
        self._dashboard = Dashboard(admin)
        self._router = Router(routes)
        self._wall = wall
        self._new_id = new_id
        metrics = _in_a_thread(make_aiohttp_handler(registry))
        self._routes: dict[str, dict[str, Handler]] = {
            "/healthz": {"GET": self._healthz, "HEAD": self._healthz},
            "/readyz": {"GET": self._readyz, "HEAD": self._readyz},
            "/metrics": {"GET": metrics},
            **{path: {"GET": page} for path, page in (pages or {}).items()},
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request; what is unknown here is told in the public port's shape."""
        id = request_id(request.headers.get("X-Request-Id"), self._new_id)
        response = await self._answer(request, id)
        if not response.prepared:
            response.headers.setdefault("X-Request-Id", id)
        return response

    async def _answer(self, request: web.BaseRequest, id: str) -> web.StreamResponse:
        path = request.rel_url.raw_path
        try:
            if path.startswith(API):
                return await self._api(request, path)
            pages = self._dashboard.find(path)
            routes = self._routes if pages is None else {path: pages}
            return await find_handler(routes, request)(request)
        except Missing as error:
            return _failed(NoSuchThing(str(error)))
        except Refused as error:
            return _failed(Conflicting(str(error)))
        except GatewayError as error:
            return _failed(error)
        except Exception as defect:  # whatever it is, the client gets our error and no detail
            log.exception("admin request failed", request_id=id, exc_info=defect)
            return _failed(InternalError())

    async def _api(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path == sessions.PATH:
            return await self._sessions.handle(request)
        visit = self._sessions.visit(request)
        authorization = request.headers.getall("Authorization", ())
        token = visit.token if visit else self._gate.authenticate(authorization)
        route, names = self._router.find(request.method, path)
        require_role(token, "GET" if route.reads else request.method)
        by = Actor(f"admin token {token.name}", self._wall())
        query = read_query(request.rel_url.query, route.query)
        response = await route.handler(Asked(request, by, names, query))
        if visit is not None:
            self._sessions.renew(visit, response)
        return response

    async def _healthz(self, request: web.BaseRequest) -> web.Response:
        """Alive: knows no store, so that a store's outage restarts nobody."""
        return web.json_response({"status": "alive"})

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        """Ready to buy. `?exclude=store`, as Kubernetes' own servers have it, says so also while
        the store is away, when answers from the cache are still given.
        """
        reason = self._not_ready()
        away = reason == "store_unavailable"
        if reason is None or (away and "store" in request.query.getall("exclude", ())):
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)


def _in_a_thread(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """Prometheus' handler, which waits for nothing and takes 0.2 s with a thousand teams: in a
    thread, requests go on meanwhile. One at a time: several would share the interpreter with them.
    """
    turn = asyncio.Lock()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        async def answered() -> web.StreamResponse:
            # It reads nothing of a request that the low-level server's lacks.
            return await handler(cast(web.Request, request))

        async with turn:
            return await asyncio.to_thread(lambda: asyncio.run(answered()))

    return handle


def _failed(error: GatewayError) -> web.Response:
    return web.Response(status=error.status, body=error_body(error), headers=failure(error))
