"""The record of one request: filled in along its path, read at its end by logs and metrics.

It holds no prompt, no secret and no header: only ids and values from closed sets, because logs,
metrics and traces are made of it.
"""

from dataclasses import dataclass, field
from time import perf_counter

from gateway.core.model import Caller, ImageRequest
from gateway.quota.limits import RateLimitStatus

OTHER = "other"
"""The label of a model, size or quality that could not be read or is not configured."""


@dataclass(slots=True)
class RequestRecord:
    """One request's record. Times are in seconds, money is in micro-dollars.

    - `labels`: the request's model, size and quality, each from a closed set.
    - `fingerprint`: the answer's key in the cache.
    - `outcome` and `status`: those of a client that left, until there is an answer.
    - `rate_limits`: the quota's status, if the ledger was asked.
    - `waited`: the time spent waiting for others: the client, the upstream, another purchase.
    - `waiting_since`: when the present wait began, None without one.
    - `upstream`: how long the upstream took, None if it was not called.
    - `phases`: the gateway's own steps in their order, for the Server-Timing header.
    - `left`: the client hung up on a purchase, which goes on without it.
    - `route`: None for images, otherwise "models", "quota", "usage" or "unknown".
    """

    id: str
    started: float
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
    left: bool = False
    route: str | None = None
    phases: dict[str, float] = field(default_factory=dict)
    waiting_since: float | None = None

    def phase_ended(self, name: str, started: float) -> None:
        """Measure a step of the gateway, from `started` until now."""
        # Not a context manager: each cache hit has two phases, and blocks take three times as long.
        self.phases[name] = perf_counter() - started

    def waiting(self) -> "_Wait":
        """Count a block as a wait for others."""
        return _Wait(self)

    def own_seconds(self, total: float | None = None) -> float:
        """The gateway's own part of the first `total` seconds, by default of those until now.

        A wait that goes on is not part of it: a purchase continues when its client has left.
        """
        if total is None:
            total = perf_counter() - self.started
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
        self._started = self._record.waiting_since = perf_counter()

    def __exit__(self, *exception: object) -> None:
        self._record.waiting_since = None
        self._record.waited += perf_counter() - self._started
