"""The record of one request: filled in along its path, read at its end by logs and metrics.

It holds no prompt, no secret and no header: only ids and values from closed sets, because logs,
metrics and traces are made of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from gateway.core.model import Caller, ImageRequest
from gateway.quota.status import RateLimitStatus

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
    _waiting_since: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a step of the gateway."""
        started = perf_counter()
        try:
            yield
        finally:
            self.phases[name] = perf_counter() - started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as a wait for others."""
        started = self._waiting_since = perf_counter()
        try:
            yield
        finally:
            self._waiting_since = None
            self.waited += perf_counter() - started

    def own_seconds(self, total: float | None = None) -> float:
        """The gateway's own part of the first `total` seconds, by default of those until now.

        A wait that goes on is not part of it: a purchase continues when its client has left.
        """
        if total is None:
            total = perf_counter() - self.started
        since = self._waiting_since
        waiting = 0.0 if since is None else self.started + total - since
        return max(0.0, total - self.waited - waiting)
