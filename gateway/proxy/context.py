"""The proxy's request and response, and the context of a request on its way between them."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from gateway.config.models import quality_label
from gateway.config.settings import Settings
from gateway.core.model import AnsweredRequest, Bought, Caller, ImageRequest
from gateway.proxy.cache_control import CacheStatus, CacheUse
from gateway.proxy.fingerprint import scope_of
from gateway.quota.pricing import ceiling
from gateway.quota.steps import Reserve
from gateway.telemetry.request_record import RequestRecord

LEASE_SLACK_SECONDS = 5.0
"""How much longer than the upstream's deadline a hold lives before it may be swept.

A gateway that lives has settled the purchase by then, or goes on trying."""

PROMPT_CHARACTERS = 200
"""How much of a prompt is kept beside a cached answer, where prompts are shown at all."""


class ProxyRequest(Struct, frozen=True):
    """A request as it arrived: the header lines that matter, and its body, still to be read."""

    authorization: Sequence[str]
    cache_control: Sequence[str]
    read_body: Callable[[], Awaitable[bytes]]


class ProxyResponse(Struct, frozen=True):
    """The body of a 200, its Cache-Status header, and its age in seconds if it was cached."""

    body: bytes
    cache_status: CacheStatus
    age: int | None = None


class Context(Struct, frozen=True):
    """One request that was read and permitted, on its way to an answer.

    `settings` are those in force when the request began, so a reload changes nothing under way.
    `at` is when it was read, in seconds since the epoch.
    """

    caller: Caller
    request: ImageRequest
    fingerprint: str
    cache: CacheUse
    settings: Settings
    record: RequestRecord
    at: float

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

    def accepts(self, cached: Bought, now: float) -> bool:
        """Whether the client takes this answer: any that was bought since its request came."""
        return cached.at >= self.at or self.cache.accepts(now - cached.at)

    def reservation(self, id: str) -> Reserve:
        """The quota to hold for buying the answer, under a new unique id."""
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
            lease=settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS,
            limits=caller.team.limits,
            key_limits=caller.key.limits,
            gateway_limits=settings.limits,
        )
