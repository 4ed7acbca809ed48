"""The record of one request: filled in along its path, read at its end by logs and metrics.

Logs, metrics and traces are made of it. Apart from the request itself, it holds no prompt, no
secret and no header: only ids, values from closed sets, and reasons without texts of the request.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from gateway.core.errors import GatewayError, LimitReached
from gateway.core.model import Caller, ImageRequest, RefusedBy
from gateway.core.upstream_errors import RepeatedUnknown, UpstreamError
from gateway.quota.limits import RateLimitStatus
from gateway.telemetry.reasons import shown_reason

OTHER = "other"
"""The label of a model, size or quality that could not be read or is not configured."""


@dataclass(slots=True)
class RequestRecord:
    """One request's record. Times are in seconds, money is in micro-dollars.

    - `own_id`: the gateway made the id, so no other request has it.
    - `labels`: the request's model, size and quality, each from a closed set.
    - `fingerprint`: the answer's key in the cache.
    - `outcome` and `status`: those of a client that left, until there is an answer.
    - `rate_limits`: the quota's status, if the ledger was asked.
    - `waited`: the time spent waiting for others: the client, the upstream, another purchase.
    - `waiting_since`: when the present wait began, None without one.
    - `upstream`: how long the upstream took, None if it was not called.
    - `phases`: the gateway's own steps in their order, for the Server-Timing header.
    - `upstream_status` and `reason`: the upstream's answer to a purchase that failed. The reason of
      a repeat that was refused has the id of the first attempt.
    - `refused_by`: the limit that refused the request.
    - `left`: the client hung up on a purchase, which goes on without it.
    - `route`: None for images, otherwise "files", "generations" (a poll), "models", "quota",
      "usage" or "unknown".
    - `clock`: seconds that never run backwards, which all durations are measured with.
    """

    id: str
    started: float
    own_id: bool = False
    caller: Caller | None = None
    request: ImageRequest | None = None
    labels: tuple[str, str, str] = (OTHER, OTHER, OTHER)
    fingerprint: str | None = None
    outcome: str = "client_closed"
    status: int = 499
    code: str | None = None
    images: int = 0
    cost: int = 0
    saved: int = 0
    rate_limits: RateLimitStatus | None = None
    waited: float = 0.0
    upstream: float | None = None
    upstream_status: int | None = None
    reason: str | None = None
    refused_by: RefusedBy | None = None
    left: bool = False
    route: str | None = None
    phases: dict[str, float] = field(default_factory=dict)
    waiting_since: float | None = None
    clock: Callable[[], float] = perf_counter

    def failed(self, error: GatewayError) -> None:
        """Fill in how the request, or its purchase, failed."""
        self.outcome, self.code = error.outcome, error.code
        if isinstance(error, LimitReached):
            self.refused_by = error.refused_by
        elif isinstance(error, UpstreamError):
            self.upstream_status, self.reason = error.upstream_status, self.reason_of(error)
        elif isinstance(error, RepeatedUnknown):
            self.reason = f"repeat of {error.first}"

    def reason_of(self, error: UpstreamError) -> str | None:
        """Return the upstream's reason without the texts of the request."""
        if error.shown_reason is None and error.reason and self.request is not None:
            error.shown_reason = shown_reason(error.reason, self.request)
        return error.shown_reason

    def phase_ended(self, name: str, started: float) -> None:
        """Measure a step of the gateway, from `started` until now."""
        # Not a context manager: each cache hit has two phases, and blocks take three times as long.
        self.phases[name] = self.clock() - started

    def purchase_id(self, fresh: Callable[[], str]) -> str:
        """Return a unique id for a purchase: the request's own id, once, if the gateway made it."""
        own, self.own_id = self.own_id, False
        return self.id if own else fresh()

    def waiting(self) -> "_Wait":
        """Count a block as a wait for others."""
        return _Wait(self)

    def own_seconds(self, total: float | None = None) -> float:
        """The gateway's own part of the first `total` seconds, by default of those until now.

        A wait that goes on is not part of it: a purchase continues when its client has left.
        """
        if total is None:
            total = self.clock() - self.started
        own = total - self.waited
        if self.waiting_since is not None:
            own -= self.started + total - self.waiting_since
        return max(0.0, own)


class _Wait:
    """A wait that counts. It is a class, because a generator takes three times as long."""

    __slots__ = ("_record", "_started")

    def __init__(self, record: RequestRecord) -> None:
        self._record = record

    def __enter__(self) -> None:
        self._started = self._record.waiting_since = self._record.clock()

    def __exit__(self, *exception: object) -> None:
        self._record.waiting_since = None
        self._record.waited += self._record.clock() - self._started
