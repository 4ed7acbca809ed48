"""The public port: its routes, under both prefixes, and an error for any other path.

With its own key, a team reads its models, quotas and usage. It sees nothing of other teams.
"""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from time import perf_counter
from typing import Annotated, Any

import structlog
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.core.errors import BodyTooLarge, GatewayError, InternalError
from gateway.core.headers import request_id
from gateway.core.model import Caller
from gateway.proxy.context import ProxyRequest
from gateway.proxy.pipeline import Proxy
from gateway.proxy.policy import visible_models
from gateway.quota.report import KeyQuota, LimitLine, team_quotas
from gateway.reporting.queries import TeamUsageQuery, UsageLine, read_usage
from gateway.stores.port import Store
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.web.body import read_json_body, send
from gateway.web.openapi_errors import GENERATION
from gateway.web.query import read_period, read_query
from gateway.web.responses import error_response, image_response, json_response
from gateway.web.routes import Match, Route, Router, routes_of

log = structlog.get_logger(source="web")

PREFIXES = ("/api/v1", "/v1")
"""The upstream's own prefix, and the one that OpenAI clients expect."""

MOST_DAYS = 400
"""The longest period of one report: a longer one would keep the store busy for everybody else."""

UNKNOWN = "unknown"
"""The record's `route` for a path that no route has."""

_CACHE_CONTROL = (
    "no-cache: buy a new answer and cache it; no-store: buy one and do not cache it; "
    "max-age=SECONDS: accept no older cached answer; only-if-cached: buy nothing."
)


# -- the bodies of the images contract, as the OpenAPI document describes them -------------------
#
# Fields that may be absent are UNSET by default, so that the document does not require them. The
# gateway itself uses only the list of models: `gateway.proxy.image_request` reads requests, and the
# upstream's answers pass unchanged.


class Generation(Struct, frozen=True, kw_only=True):
    """A request for images. The gateway passes any further field on to the upstream unchanged."""

    prompt: str
    model: str | None = None
    size: Annotated[str, Meta(description="auto or WxH, such as 1024x1024")] | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    quality: str | None = None


class Image(Struct, frozen=True, kw_only=True):
    """One image, as a URL or as base64."""

    url: str | UnsetType | None = UNSET
    b64_json: str | UnsetType | None = UNSET
    revised_prompt: str | UnsetType | None = UNSET


class Tokens(Struct, frozen=True, kw_only=True):
    """Tokens that the upstream counted."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int] | UnsetType | None = UNSET
    output_tokens_details: dict[str, int] | UnsetType | None = UNSET


class Images(Struct, frozen=True, kw_only=True):
    """The upstream's answer, unchanged. It may have further fields, and lack optional ones."""

    created: int
    data: list[Image]
    size: str | UnsetType | None = UNSET
    quality: str | UnsetType | None = UNSET
    background: str | UnsetType | None = UNSET
    output_format: str | UnsetType | None = UNSET
    usage: Tokens | UnsetType | None = UNSET


class ListedModel(Struct, frozen=True, kw_only=True):
    """A model that the key may use, in the shape of OpenAI's list."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "image-gateway"


class ModelList(Struct, frozen=True, kw_only=True):
    """All models that the key may use."""

    object: str
    data: list[ListedModel]


# -- what a team reads about itself -------------------------------------------------------------


class OwnQuota(Struct, frozen=True, kw_only=True):
    """The team's limits, and the limits of the caller's key if it has any."""

    team: str
    limits: list[LimitLine]
    key: KeyQuota | None


class OwnUsage(Struct, frozen=True, kw_only=True):
    """The team's usage, all of its keys together unless grouped by key."""

    team: str
    usage: list[UsageLine]


class PublicRequest(Struct, frozen=True):
    """One request to the public port, and the record of how the gateway served it."""

    request: web.BaseRequest
    record: RequestRecord


PublicRoute = Route[PublicRequest]


@dataclass(eq=False)
class PublicApi:
    """Handles every request of the public port: the server calls `handle`.

    `flush` writes buffered usage to the store, and `wall` returns the time. `observer` receives
    each request that has ended.
    """

    proxy: Proxy
    directory: Directory
    store: Store
    _: KW_ONLY
    new_id: Callable[[], str]
    wall: Callable[[], float]
    flush: Callable[[], Awaitable[None]]
    observer: Observer = NO_OBSERVER
    tracing: Tracing = NO_TRACING

    def __post_init__(self) -> None:
        self.routes = [route for prefix in PREFIXES for route in routes_of(self, prefix)]
        self._router = Router(self.routes)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and report its end to the observer."""
        match = self._router.match(request.rel_url.raw_path)
        record = RequestRecord(
            id=request_id(request.headers.get("X-Request-Id"), self.new_id),
            started=perf_counter(),
            route=None if match.path.endswith("/generations") else _label(match.path),
        )
        with self.tracing.request(request.method, match.path, request.headers, record):
            return await self._answer(request, match, record)

    async def _answer(
        self, request: web.BaseRequest, match: Match[PublicRequest], record: RequestRecord
    ) -> web.StreamResponse:
        try:
            route = match.route(request.method)
            result = await route.handler(PublicRequest(request, record))
            response = (
                result if isinstance(result, web.StreamResponse) else json_response(result, record)
            )
            record.status = response.status
            return response
        except GatewayError as error:
            return self._failed(error, record)
        except Exception as defect:  # of any kind: the client gets our error without a detail
            log.exception("request failed", id=record.id, exc_info=defect)
            return self._failed(InternalError(), record)
        finally:
            self.observer.request_ended(record, perf_counter() - record.started)

    def _failed(self, error: GatewayError, record: RequestRecord) -> web.Response:
        record.outcome, record.status, record.code = error.outcome, error.status, error.code
        response = error_response(error, record)
        if isinstance(error, BodyTooLarge) or error.code == "body_timeout":
            response.force_close()  # the client is still sending the rest of the body
        return response

    @PublicRoute(
        "POST",
        "/images/generations",
        "Generate images, or get cached ones",
        response=Images,
        body=Generation,
        errors=GENERATION,
        headers={"Cache-Control": _CACHE_CONTROL},
        example={"prompt": "A red apple on a white table", "size": "1024x1024"},
    )
    async def _generations(self, call: PublicRequest) -> web.StreamResponse:
        request, record = call.request, call.record
        server = self.proxy.settings().server
        incoming = ProxyRequest(
            authorization=request.headers.getall("Authorization", ()),
            cache_control=request.headers.getall("Cache-Control", ()),
            read_body=lambda: read_json_body(request, server.max_body_bytes, server.body_seconds),
        )
        answer = await self.proxy.generate(incoming, record)
        response = image_response(answer, record)
        return await send(request, response, record, server.unread_seconds)

    # -- what a team reads about itself ---------------------------------------------------------

    @PublicRoute("GET", "/models", "List the models that this key may use")
    async def _models(self, call: PublicRequest) -> ModelList:
        caller = await self._caller(call)
        names = visible_models(caller.team, self.proxy.settings().models)
        return ModelList(object="list", data=[ListedModel(id=name) for name in names])

    @PublicRoute("GET", "/quota", "Current usage against limits")
    async def _quota(self, call: PublicRequest) -> OwnQuota:
        """Like OpenAI's API, it ignores any query."""
        caller = await self._caller(call)
        (quota,) = await team_quotas(self.store.accounts, [caller.team], [caller.key])
        key = quota.keys[0] if quota.keys else None
        return OwnQuota(team=quota.team, limits=quota.limits, key=key)

    @PublicRoute(
        "GET",
        "/usage",
        "Usage of the key's team",
        response=OwnUsage,
        query=TeamUsageQuery,
        example={"by": ["day", "model"]},
    )
    async def _usage(self, call: PublicRequest) -> dict[str, Any]:
        team = (await self._caller(call)).team.name
        query = read_query(call.request.rel_url.query, TeamUsageQuery)
        start, end = read_period(query, self.wall(), most_days=MOST_DAYS)
        await self.flush()
        rows = await read_usage(self.store.usage, query.by, start, end, team)
        return {"team": team, "usage": rows}

    async def _caller(self, call: PublicRequest) -> Caller:
        """The team and key of a request about them. Raises Unauthenticated."""
        request, record = call.request, call.record
        authorization = request.headers.getall("Authorization", ())
        record.caller = await self.directory.authenticate(authorization)
        record.outcome = _label(request.rel_url.raw_path)
        return record.caller


def _label(path: str) -> str:
    """The name of a route in logs and metrics."""
    return path.rpartition("/")[2] or UNKNOWN
