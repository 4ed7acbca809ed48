"""The public port: the contract's routes, and an error in its shape for everything else."""

from collections.abc import Awaitable, Callable, Collection
from time import perf_counter

import structlog
from aiohttp import web

from gateway.core.errors import BodyTooLarge, GatewayError, InternalError
from gateway.core.headers import request_id
from gateway.proxy.context import ProxyRequest
from gateway.proxy.pipeline import Proxy
from gateway.proxy.policy import visible_models
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.web.body import BODY_SECONDS, read_json_body
from gateway.web.http_server import find_handler
from gateway.web.responses import error_response, image_response, json_response
from gateway.web.self_service import SelfService
from gateway.web.sending import send

log = structlog.get_logger(source="web")

UNKNOWN = "unknown"
"""What a record says of a path that is none of the routes."""

Endpoint = Callable[[web.BaseRequest, RequestRecord], Awaitable[web.StreamResponse]]


class PublicApi:
    """Handles every request of the public port: `handle` is what the server calls.

    `observer` receives each request that has ended.
    """

    def __init__(
        self,
        proxy: Proxy,
        directory: Directory,
        new_id: Callable[[], str],
        *,
        self_service: SelfService | None = None,
        observer: Observer = NO_OBSERVER,
        body_seconds: float = BODY_SECONDS,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._proxy = proxy
        self._directory = directory
        self._new_id = new_id
        self._body_seconds = body_seconds
        self._tracing = tracing
        self._observer = observer
        generations: dict[str, Endpoint] = {"POST": self._generations}
        models: dict[str, Endpoint] = {"GET": self._models}
        self._routes: dict[str, dict[str, Endpoint]] = {
            "/api/v1/images/generations": generations,
            "/v1/images/generations": generations,
            "/api/v1/models": models,
            "/v1/models": models,
        }
        if self_service is not None:
            for prefix in ("/api/v1", "/v1"):
                self._routes[f"{prefix}/quota"] = {"GET": self_service.quota}
                self._routes[f"{prefix}/usage"] = {"GET": self_service.usage}
        self._told = {path: _told(path) for path in self._routes}

    @property
    def paths(self) -> Collection[str]:
        """The paths of all routes."""
        return self._routes.keys()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and report its end to the observer."""
        record = RequestRecord(
            id=request_id(request.headers.get("X-Request-Id"), self._new_id),
            started=perf_counter(),
            route=self._told.get(request.path, UNKNOWN),
        )
        route = request.path if request.path in self._routes else ""
        with self._tracing.request(request.method, route, request.headers, record):
            return await self._answer(request, record)

    async def _answer(self, request: web.BaseRequest, record: RequestRecord) -> web.StreamResponse:
        try:
            endpoint = find_handler(self._routes, request)
            response = await endpoint(request, record)
            record.status = response.status
            return response
        except GatewayError as error:
            return self._failed(error, record)
        except Exception as defect:  # whatever it is, the client gets our error and no detail
            log.exception("request failed", id=record.id, exc_info=defect)
            return self._failed(InternalError(), record)
        finally:
            self._observer.request_ended(record, perf_counter() - record.started)

    def _failed(self, error: GatewayError, record: RequestRecord) -> web.Response:
        record.outcome, record.status, record.code = error.outcome, error.status, error.code
        response = error_response(error, record)
        if isinstance(error, BodyTooLarge) or error.code == "body_timeout":
            response.force_close()  # the rest of the body is still on its way
        return response

    async def _generations(
        self, request: web.BaseRequest, record: RequestRecord
    ) -> web.StreamResponse:
        limit = self._proxy.settings.server.max_body_bytes
        incoming = ProxyRequest(
            authorization=request.headers.getall("Authorization", ()),
            cache_control=request.headers.getall("Cache-Control", ()),
            read_body=lambda: read_json_body(request, limit, self._body_seconds),
        )
        answer = await self._proxy.generate(incoming, record)
        return await send(request, image_response(answer, record), record)

    async def _models(self, request: web.BaseRequest, record: RequestRecord) -> web.Response:
        authorization = request.headers.getall("Authorization", ())
        caller = record.caller = await self._directory.authenticate(authorization)
        record.outcome = "models"
        models = visible_models(caller.team, self._proxy.settings.models)
        return json_response({"object": "list", "data": [_listed(name) for name in models]}, record)


def _told(path: str) -> str | None:
    """What a record says of a route."""
    name = path.rpartition("/")[2]
    return None if name == "generations" else name


def _listed(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "image-gateway"}
