"""The admin port: health checks, metrics for Prometheus, the admin API and the dashboard."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, cast

import structlog
from aiohttp import web
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.exposition import choose_encoder

from gateway.config.settings import AdminSettings
from gateway.core.admin_errors import AdminOff
from gateway.core.errors import GatewayError, InternalError, RateLimited
from gateway.core.headers import request_id
from gateway.stores.port import StoreSetting
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.tenants.changes import Actor
from gateway.web.admin.http import (
    API,
    BODY_LIMITS,
    HEADERS,
    AdminHandler,
    AdminRequest,
    AdminRoute,
    answer_result,
)
from gateway.web.admin.pages import dashboard_routes, openapi_pages, page_route
from gateway.web.admin.sessions import Sessions, require_role
from gateway.web.body_budget import BodyBudget
from gateway.web.openapi import ADMIN, DocumentedPort
from gateway.web.query import read_query
from gateway.web.responses import error_body
from gateway.web.routes import Match, Router, routes_of

log = structlog.get_logger(source="admin")

AT_ONCE = 4
"""Lists and reports that are made at the same time: each has short steps that hold the event loop,
and a hundred of these would take too long together. Others wait."""


class NotReady(Struct, frozen=True):
    """Why the gateway is not ready: a code, and for the store the end of a sentence about it."""

    reason: Literal["draining", "store_unavailable"]
    cause: str | None = None


@dataclass(eq=False)
class AdminApi:
    """Handles every request of the admin port: the server calls `handle`.

    `not_ready` returns None while the gateway is ready. `admin` returns the current tokens, `wall`
    the time, `new_id` a new id. `api` are the routes of the admin API; `public` is the other port,
    which the OpenAPI document describes too. The pepper signs the dashboard's sessions. `observer`
    receives the wrong tokens. `public_url` returns the URL of this port at a proxy, or "".
    `store_settings` returns the settings of the store's server.
    """

    registry: CollectorRegistry
    not_ready: Callable[[], NotReady | None]
    admin: Callable[[], AdminSettings]
    api: Sequence[AdminRoute]
    public: DocumentedPort
    _: KW_ONLY
    wall: Callable[[], float]
    pepper: bytes
    new_id: Callable[[], str]
    observer: Observer = NO_OBSERVER
    public_url: Callable[[], str] = str
    store_settings: Callable[[], Sequence[StoreSetting]] = tuple

    def __post_init__(self) -> None:
        self._bodies = BodyBudget(lambda: BODY_LIMITS, random.random)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._sessions = Sessions(
            self.admin, self.pepper, self.wall, time.monotonic, self.observer, self.public_url
        )
        metrics = _in_a_thread(make_aiohttp_handler(self.registry))
        self.routes = [
            page_route("/healthz", self._healthz),
            page_route("/readyz", self._readyz),
            page_route("/metrics", metrics),
            *routes_of(self._sessions, API),
            *self.api,
            *dashboard_routes(self.admin),
        ]
        own = DocumentedPort(url=".", security=ADMIN, routes=self.routes)
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
            call = AdminRequest(request, anybody, match.params, None, self._bodies)
            return await _respond(match.route(request.method), call)
        # Before the look-up of the method: without a token nobody learns which routes there are.
        visit = self._sessions.visit(request)
        token = visit.token if visit else await self._sessions.authenticate(request)
        route = match.route(request.method)
        require_role(token, route)
        by = Actor(f"admin token {token.name}", self.wall())
        query = read_query(request.rel_url.query, route.query, by.now)
        call = AdminRequest(request, by, match.params, query, self._bodies)
        if route.waits_for_client:
            response = await _respond(route, call)
        else:
            async with self._room:
                response = await _respond(route, call)
        if visit is not None:
            self._sessions.renew(visit, response)
        return response

    async def _healthz(self, call: AdminRequest) -> web.Response:
        """Alive. It does not ask the store, so that an outage of the store restarts no gateway."""
        return web.json_response({"status": "alive"})

    async def _readyz(self, call: AdminRequest) -> web.Response:
        """Ready to buy: a purchase could be written a moment ago.

        With `?exclude=store` (the syntax of Kubernetes' own servers) it is also ready while the
        store is away, because the gateway still serves cache hits. The body also has the settings
        of the store's server, which change nothing about the status.
        """
        store = {setting.name: setting.value for setting in self.store_settings()}
        settings = {"store": store} if store else {}
        state = self.not_ready()
        excluded = call.request.query.getall("exclude", ())
        if state is None or (state.reason == "store_unavailable" and "store" in excluded):
            return web.json_response({"status": "ready", **settings})
        body = {"status": "not ready", "reason": state.reason, **settings}
        if state.cause:
            body["cause"] = f"The store cannot be used: {state.cause}."
        return web.json_response(body, status=503)


async def _respond(route: AdminRoute, call: AdminRequest) -> web.StreamResponse:
    result = await route.handler(call)
    if isinstance(result, web.StreamResponse):
        return result
    return await answer_result(result, route.status)


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
        def collect() -> web.StreamResponse:
            # The handler reads nothing that the low-level server's request lacks.
            request = cast(web.Request, _with_readable_accept(call.request))
            work = cast(Coroutine[Any, Any, Any], handler(request))
            try:
                work.send(None)  # an event loop of its own would need three file descriptors
            except StopIteration as done:
                return cast(web.StreamResponse, done.value)
            raise RuntimeError("Prometheus' handler waits")

        async with turn:
            return await asyncio.to_thread(collect)

    return handle


def _with_readable_accept(request: web.BaseRequest) -> web.BaseRequest:
    """The request, without any headers if Prometheus' handler would fail on its Accept.

    The handler compares the version in it without a check, and repeats it in its answer.
    """
    accept = ",".join(request.headers.getall("Accept", ()))
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return request.clone(headers={})
    return request if accept.isascii() and accept.isprintable() else request.clone(headers={})


def _failed(error: GatewayError) -> web.Response:
    headers = {**HEADERS, **error.headers}
    response = web.Response(status=error.status, body=error_body(error), headers=headers)
    if isinstance(error, RateLimited):
        response.force_close()  # each further guess needs a connection of its own
    return response
