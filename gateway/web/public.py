"""The public port: its routes, under both prefixes, and an error for any other path.

With its own key, a team reads its models, quotas and usage. It sees nothing of other teams.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from time import perf_counter
from urllib.parse import unquote

import structlog
from aiohttp import web
from msgspec import Struct, json

from gateway.core.bounds import TEAM_ROWS
from gateway.core.errors import (
    BodyTooLarge,
    GatewayError,
    InternalError,
    Unauthenticated,
    UnknownModel,
)
from gateway.core.faults import Fault, InvalidFields
from gateway.core.headers import RETRY_COUNT, is_marked_retry, request_id
from gateway.core.listing import Listing
from gateway.core.model import Caller, ImageRequest
from gateway.core.turns import Turns
from gateway.images.events import completed_events, error_event, partial_event
from gateway.proxy.context import Accepted, ProxyRequest, ProxyResponse
from gateway.proxy.pipeline import Proxy
from gateway.proxy.policy import visible_models
from gateway.proxy.reply import LARGE_BYTES
from gateway.quota.report import KeyQuota, LimitLine, team_quotas
from gateway.reporting.queries import TeamUsageQuery, UsageLine, usage_bounds, usage_pieces
from gateway.stores.port import Store
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.telemetry.tracing import NO_TRACING, Tracing
from gateway.tenants.directory import Directory
from gateway.web.body import SLICES_AT_ONCE, read_json_body, send
from gateway.web.body_budget import BodyBudget, BodyLimits, BodyShare
from gateway.web.contract import HEADERS, Generation, Images, ListedModel, ModelList, Pending
from gateway.web.cors import ALLOW_ORIGIN, is_preflight, origin_headers, preflight_headers
from gateway.web.hints import no_such_route, where_the_key_belongs
from gateway.web.images import FILE_ERRORS, ImageFiles, own_url
from gateway.web.openapi_errors import GENERATION, POLL
from gateway.web.query import read_query
from gateway.web.responses import (
    accepted_response,
    empty_response,
    error_body,
    error_response,
    image_response,
    json_lists,
    json_response,
    stream_head,
)
from gateway.web.routes import Match, Route, Router, routes_of
from gateway.web.streams import BEAT_SECONDS, EventStream

log = structlog.get_logger(source="web")

PREFIXES = ("/api/v1", "/v1")
"""The upstream's own prefix, and the one that OpenAI clients expect."""

UNKNOWN = "unknown"
"""The record's `route` for a path that no route has."""


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
    """One request to the public port, and the record of how the gateway served it.

    `params` are the values of the parameters in the path, as they came. `headers` belong to the
    answer: a handler that sends one itself adds them.
    """

    request: web.BaseRequest
    record: RequestRecord
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}


PublicRoute = Route[PublicRequest]


@dataclass(eq=False)
class PublicApi:
    """Handles every request of the public port: the server calls `handle`.

    `flush` writes buffered usage to the store, and `wall` returns the time. `observer` receives
    each request that has ended. `files` serves the pictures that are kept. `beat_seconds`: see
    `EventStream`.
    """

    proxy: Proxy
    directory: Directory
    store: Store
    _: KW_ONLY
    new_id: Callable[[], str]
    wall: Callable[[], float]
    flush: Callable[[], Awaitable[None]]
    files: ImageFiles
    observer: Observer = NO_OBSERVER
    tracing: Tracing = NO_TRACING
    beat_seconds: float = BEAT_SECONDS

    def __post_init__(self) -> None:
        self.routes = [route for prefix in PREFIXES for route in routes_of(self, prefix)]
        self._router = Router(self.routes)
        self._plain = [route.path for route in routes_of(self) if "{" not in route.path]
        self._turns = Turns(SLICES_AT_ONCE)
        self.bodies = BodyBudget(self._body_limits, self.proxy.spread)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and report its end to the observer."""
        match = self._router.match(request.rel_url.raw_path)
        given = request.headers.get("X-Request-Id")
        id = request_id(given, self.new_id)
        record = RequestRecord(
            id=id,
            own_id=id != given,
            started=perf_counter(),
            route=None if match.path.endswith("/generations") else _label(match.path),
        )
        allowed = self.proxy.settings().server.allowed_origins
        headers = origin_headers(allowed, request.headers.get("Origin")) if allowed else {}
        call = PublicRequest(request, record, match.params, headers)
        with self.tracing.request(request.method, match.path, request.headers, record):
            response = await self._answer(call, match)
        if headers and not response.prepared:
            response.headers.update(headers)
        return response

    async def _answer(self, call: PublicRequest, match: Match[PublicRequest]) -> web.StreamResponse:
        record = call.record
        try:
            response = await self._served(call, match)
            if record.code is None:  # else an error came after the head of a stream
                record.status = response.status
            return response
        except Exception as failure:  # noqa: BLE001 - of any kind: `_failed` logs a defect
            error = self._failed(failure, call)
            response = error_response(error, record)
            if isinstance(error, BodyTooLarge) or error.code == "body_timeout":
                response.force_close()  # the client is still sending the rest of the body
            return response
        finally:
            self.observer.request_ended(record, record.clock() - record.started)

    async def _served(self, call: PublicRequest, match: Match[PublicRequest]) -> web.StreamResponse:
        """Answer a request, or a browser's question whether it may send one."""
        request, record = call.request, call.record
        if not match.methods:
            raise no_such_route(request.rel_url.raw_path, PREFIXES[-1], self._plain)
        if ALLOW_ORIGIN in call.headers and is_preflight(request.method, request.headers):
            record.outcome = "preflight"
            return empty_response(preflight_headers(match.allowed), record)
        result = await match.route(request.method).handler(call)
        return result if isinstance(result, web.StreamResponse) else json_response(result, record)

    def _failed(self, failure: Exception, call: PublicRequest) -> GatewayError:
        """Record a failure. Returns the error to answer, which has no detail of a defect."""
        record, error = call.record, failure
        if not isinstance(error, GatewayError):
            log.error("request failed", id=record.id, exc_info=failure)
            error = InternalError()
        # Its frames refer to the flight, whose task has the error: a thousand such cycles a second
        # keep the garbage collector busy for 50 ms at a time.
        error.__traceback__ = None
        if isinstance(error, Unauthenticated):
            error = where_the_key_belongs(call.request.headers) or error
        record.failed(error)
        record.status = error.status
        return error

    @PublicRoute(
        "POST",
        "/images/generations",
        "Generate images, or get cached ones",
        response=Images,
        body=Generation,
        errors=GENERATION,
        headers=HEADERS,
        accepted=Pending,
        example={"prompt": "A red apple on a white table", "size": "1024x1024"},
        has_events=True,
    )
    async def _generations(self, call: PublicRequest) -> web.StreamResponse:
        request, record = call.request, call.record
        server, share = self.proxy.settings().server, BodyShare(self.bodies)

        def read_body(caller: Caller) -> Awaitable[bytes]:
            share.sender = caller.key.line
            return read_json_body(request, server.max_body_bytes, share, server.body_seconds)

        def head() -> dict[str, str]:
            return {**stream_head(record), **call.headers}

        stream = EventStream(request, head, server.unread_seconds, self._turns, self.beat_seconds)
        incoming = ProxyRequest(
            authorization=request.headers.getall("Authorization", ()),
            cache_control=request.headers.getall("Cache-Control", ()),
            read_body=read_body,
            is_retry=is_marked_retry(request.headers.get(RETRY_COUNT)),
            origin=lambda: own_url(request, server.public_url),
            on_stream=stream.expect,
            idempotency_key=request.headers.getall("Idempotency-Key", ()),
            on_partial=lambda event: stream.pass_on(partial_event(event)),
            prefer=request.headers.getall("Prefer", ()),
        )
        try:
            try:
                answer = await self.proxy.generate(incoming, record)
            finally:
                share.release()
            if isinstance(answer, Accepted):
                return accepted_response(answer.id, record)
            return await self._deliver(answer, call, stream)
        except Exception as failure:
            if stream.response is None:
                raise
            await stream.end(error_event(error_body(self._failed(failure, call))))
            return stream.response
        finally:
            stream.close()

    async def _deliver(
        self, answer: ProxyResponse, call: PublicRequest, stream: EventStream
    ) -> web.StreamResponse:
        """Send an answer whole, or as the last events of a stream that has begun."""
        request, record, events, whole = call.request, call.record, None, False
        try:
            if record.request is not None and record.request.stream:
                events = await self._events(answer.body, record.request)
            if events is not None and stream.response is not None:
                with record.waiting():
                    whole = await stream.end(events)
                return stream.response
            stream.close()
            response = self._headed(image_response(answer, record, events), call)
            sent, whole = await send(
                request,
                response,
                record,
                self.proxy.settings().server.unread_seconds,
                self._turns,
                small=answer.sent is not None,
            )
            return sent
        finally:
            if answer.sent is not None:
                answer.sent(whole)

    @staticmethod
    def _headed(response: web.Response, call: PublicRequest) -> web.Response:
        """Add the headers that every answer gets."""
        response.headers.update(call.headers)
        return response

    @PublicRoute(
        "GET",
        "/images/generations/{operation}",
        "The answer to a request that was answered with 202",
        response=Images,
        accepted=Pending,
        errors=POLL,
    )
    async def _operation(self, call: PublicRequest) -> web.StreamResponse:
        request, record, settings = call.request, call.record, self.proxy.settings()
        await self._caller(call)
        record.outcome = "polled"
        origin = partial(own_url, request, settings.server.public_url)
        answer = await self.proxy.named.poll(call.params["operation"], settings, origin, record)
        if isinstance(answer, Accepted):
            return accepted_response(answer.id, record, is_poll=True)
        response = self._headed(image_response(answer, record), call)
        seconds = settings.server.unread_seconds
        return (await send(request, response, record, seconds, self._turns))[0]

    async def _events(self, body: bytes, request: ImageRequest) -> bytes:
        """The events of an answer. Those of a large one are made in a thread."""
        make = partial(completed_events, body, request, self.wall())
        return make() if len(body) < LARGE_BYTES else await asyncio.to_thread(make)

    @PublicRoute(
        "GET",
        "/images/files/{name}",
        "A picture, by its signed link",
        errors=FILE_ERRORS,
        is_open=True,
    )
    async def _file(self, call: PublicRequest) -> web.StreamResponse:
        request, record = call.request, call.record
        seconds, turns = self.proxy.settings().server.unread_seconds, self._turns
        async with self.files.answer(request, call.params["name"]) as (response, slices):
            record.outcome, response.headers["X-Request-Id"] = "files", record.id
            return (await send(request, response, record, seconds, turns, slices=slices))[0]

    def _body_limits(self) -> BodyLimits:
        server = self.proxy.settings().server
        # One body of the greatest size always fits.
        return BodyLimits(
            of_sender=max(server.max_pending_body_bytes_per_key, server.max_body_bytes),
            in_all=max(server.max_pending_body_bytes, server.max_body_bytes),
        )

    # -- what a team reads about itself ---------------------------------------------------------

    @PublicRoute("GET", "/models", "List the models that this key may use")
    async def _models(self, call: PublicRequest) -> ModelList:
        return ModelList(object="list", data=await self._listed(call))

    @PublicRoute("GET", "/models/{model*}", "Describe one of these models", errors=(UnknownModel,))
    async def _model(self, call: PublicRequest) -> ListedModel:
        name = unquote(call.params["model"])
        found = [model for model in await self._listed(call) if model.id == name]
        if not name.strip("/"):
            raise no_such_route(call.request.rel_url.raw_path, PREFIXES[-1], self._plain)
        if not found:
            raise UnknownModel
        return found[0]

    async def _listed(self, call: PublicRequest) -> list[ListedModel]:
        """The models and aliases that the caller may use."""
        caller, models = await self._caller(call), self.proxy.settings().models
        names = visible_models(caller.team, models)
        aliases = [
            ListedModel(id=alias, root=name) for name in names for alias in models[name].aliases
        ]
        return [*(ListedModel(id=name) for name in names), *aliases]

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
    async def _usage(self, call: PublicRequest) -> bytes:
        team, now = (await self._caller(call)).team.name, self.wall()
        query = read_query(call.request.rel_url.query, TeamUsageQuery, now)
        start, end = usage_bounds(query, now)
        await self.flush()
        pieces = at_most(TEAM_ROWS, usage_pieces(self.store.usage, query.by, start, end, team))
        rows = b"".join([piece async for piece in json_lists(pieces)])
        return b'{"team":%b,"usage":%b}' % (json.encode(team), rows)

    async def _caller(self, call: PublicRequest) -> Caller:
        """The team and key of a request about them. Raises Unauthenticated."""
        request, record = call.request, call.record
        authorization = request.headers.getall("Authorization", ())
        record.caller = await self.directory.authenticate(authorization)
        record.outcome = record.route or UNKNOWN
        return record.caller


async def at_most(most: int, pieces: AsyncIterator[list[Listing]]) -> AsyncIterator[list[Listing]]:
    """Yield pieces of a report. Raises InvalidFields if it has more rows."""
    rows = 0
    async for piece in pieces:
        rows += len(piece)
        if rows > most:
            reason = f"makes more than {most} rows: name fewer fields, or a shorter span"
            raise InvalidFields([Fault(("by",), reason)])
        yield piece


def _label(path: str) -> str:
    """The name of a route in logs and metrics, without parameters."""
    return path.partition("/{")[0].rpartition("/")[2] or UNKNOWN
