"""The proxy's request and response, and the context of a request on its way between them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.config.models import quality_label
from gateway.config.settings import Settings
from gateway.core.model import AnsweredRequest, Bought, Caller, Deliver, ImageRequest
from gateway.proxy.cache_control import CacheStatus, CacheUse
from gateway.proxy.fingerprint import body_digest, scope_of
from gateway.proxy.operation_name import OperationName
from gateway.proxy.operations import OpenOperations, Ticket
from gateway.quota.operations import Wish, record_name
from gateway.quota.pricing import ceiling
from gateway.quota.steps import Reserve
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.port import OnPartial, no_partial

LEASE_SLACK_SECONDS = 5.0
"""How much longer than the upstream's deadline a hold lives before it may be swept.

A gateway that lives has settled the purchase by then, or goes on trying."""

_IN_STREAMS: Mapping[Deliver, Deliver] = {"url": "both", "upstream": "auto"}
"""The form of a stream in the place of another: the clients of a stream read base64."""

PROMPT_CHARACTERS = 200
"""How much of a prompt is kept beside a cached answer, where prompts are shown at all."""


class ProxyRequest(Struct, frozen=True):
    """A request as it arrived: the header lines that matter, and its body, still to be read.

    `is_retry` means that an official SDK marked it as the retry of a request of its own. `origin`
    returns the URL under which the client reaches the gateway, "" if that is not known. The proxy
    calls `on_stream` if the request asks for a stream, and nothing refuses it at once, and
    `on_partial` with the partial images that the upstream sends while this request buys.
    `idempotency_key` and `prefer` have the lines of these headers.
    """

    authorization: Sequence[str]
    cache_control: Sequence[str]
    read_body: Callable[[Caller], Awaitable[bytes]]
    is_retry: bool = False
    origin: Callable[[], str] = str
    on_stream: Callable[[], None] = lambda: None
    idempotency_key: Sequence[str] = ()
    on_partial: OnPartial = no_partial
    prefer: Sequence[str] = ()


def wanted_partials(request: ImageRequest, on_partial: OnPartial) -> OnPartial:
    """Pass on as many partial images as the request asks for, and no more.

    Upstreams may stream unasked: a client that reads no stream must not get an event.
    """
    left = request.partial_images * request.n if request.stream else 0

    def pass_on(event: bytes) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            on_partial(event)

    return pass_on if left else no_partial


class ProxyResponse(Struct, frozen=True):
    """The body of a 200, its Cache-Status header, and its age in seconds if it was cached.

    `sent`, if there is one, receives whether the client got all of it.
    """

    body: bytes
    cache_status: CacheStatus
    age: int | None = None
    sent: Callable[[bool], None] | None = None


class Accepted(Struct, frozen=True):
    """The answer to a client that asks later for the operation with this id."""

    id: str


class Reader(Protocol):
    """What decides about the form of an answer: a request, or a poll."""

    @property
    def form(self) -> Deliver:
        """The form in which the client reads pictures."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""

    @property
    def origin(self) -> Callable[[], str]:
        """See `ProxyRequest`."""

    @property
    def fingerprint(self) -> str:
        """The answer's name in the cache."""

    @property
    def record(self) -> RequestRecord:
        """The record of the request or the poll."""


class Poll(Struct, frozen=True):
    """A poll for an operation: see `Reader`."""

    form: Deliver
    settings: Settings
    origin: Callable[[], str]
    fingerprint: str
    record: RequestRecord


class Admission:
    """What becomes of a request whose client asks later.

    It is `decided` once its purchase `is_reserved`, once it waits for one of another request, or
    once it `has_ended`.
    """

    def __init__(self) -> None:
        self.decided = asyncio.Event()
        self.is_reserved = False
        self.has_ended = False


class Context(Struct, frozen=True):
    """One request that was read and permitted, on its way to an answer.

    `settings` are those in force when the request began, so a reload changes nothing under way.
    `at` is when it was read, in seconds since the epoch.
    `fresh` means that its client asked for a new image, `is_retry` that an official SDK marked it
    as a retry. `origin`, `on_partial`: see `ProxyRequest`. `name` is that of its operation, if it
    has one, and `admission` says whether its client may be told to ask later.
    """

    caller: Caller
    request: ImageRequest
    fingerprint: str
    cache: CacheUse
    settings: Settings
    record: RequestRecord
    at: float
    ticket: Ticket
    fresh: bool = False
    is_retry: bool = False
    origin: Callable[[], str] = str
    name: OperationName | None = None
    on_partial: OnPartial = no_partial
    admission: Admission | None = None

    @property
    def form(self) -> Deliver:
        """The form in which the client reads pictures."""
        of_team = self.caller.team.deliver or self.settings.images.deliver
        form = self.request.response_format or of_team
        return _IN_STREAMS.get(form, form) if self.request.stream else form

    @property
    def limit_owners(self) -> tuple[tuple[str, str], ...]:
        """The owners of the limits that apply to this caller, apart from the gateway itself."""
        return ("key", self.caller.key.line), ("team", self.caller.team.name)

    @property
    def about(self) -> AnsweredRequest:
        """The description of a cached answer. It has the prompt only if prompts are shown."""
        request, team, settings = self.request, self.caller.team, self.settings
        return AnsweredRequest(
            scope=scope_of(team, settings),
            team=team.name,
            model=request.model,
            size=request.size,
            quality=quality_label(request.quality),
            prompt=request.prompt[:PROMPT_CHARACTERS] if settings.admin.show_prompts else None,
        )

    @property
    def operations_name(self) -> str:
        """The name of the record of operations: that of its own name, or of its key line."""
        if self.name is not None:
            return self.name.record
        return record_name(self.caller.key.line, body_digest(self.request))

    def accepts(self, cached: Bought, now: float) -> bool:
        """Whether the client takes this answer: any that was bought since its request came."""
        return cached.at >= self.at or self.cache.accepts(now - cached.at)

    def purchase_id(self, fresh: Callable[[], str]) -> str:
        """Return the id of its next reservation: under a name, the one that it was claimed with."""
        return self.record.purchase_id(fresh) if self.name is None else self.name.operation

    def wish(self, operations: OpenOperations, gone: frozenset[str] = frozenset()) -> Wish:
        """What it wants to buy. The answers of the operations in `gone` were lost."""
        own, record = self.caller.team.unknown_hold_seconds, self.record
        hold_seconds = self.settings.upstream.unknown_hold_seconds if own is None else own
        return Wish(
            name=self.operations_name,
            gateway=operations.gateway,
            request=record.id,
            fresh=self.fresh,
            is_retry=self.is_retry,
            age=record.clock() - record.started,
            hold_seconds=hold_seconds,
            shared=operations.shared,
            gone=gone,
            body="" if self.name is None else self.name.body,
            promised=self.name is not None and self.name.promised,
            form=self.request.response_format or "",
        )

    def decide(self, *, is_reserved: bool = False, has_ended: bool = False) -> None:
        """Note what becomes of it: see `Admission`."""
        if (admission := self.admission) is not None:
            admission.is_reserved |= is_reserved
            admission.has_ended |= has_ended
            admission.decided.set()

    @property
    def lease_seconds(self) -> float:
        """The longest time of its purchase."""
        return self.settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS

    def reservation(self, id: str, operations: OpenOperations, gone: frozenset[str]) -> Reserve:
        """The quota to hold for buying the answer, under a new unique id.

        The answers of the operations in `gone` were lost.
        """
        request, caller, settings = self.request, self.caller, self.settings
        return Reserve(
            id=id,
            team=caller.team.name,
            key=caller.key.line,
            model=request.model,
            size=request.size,
            quality=quality_label(request.quality),
            images=request.n,
            cost=ceiling(settings.models[request.model], request),
            lease=self.lease_seconds,
            limits=caller.team.limits,
            key_limits=caller.key.limits,
            gateway_limits=settings.limits,
            wish=self.wish(operations, gone),
            request="" if id == self.record.id else self.record.id,
        )
