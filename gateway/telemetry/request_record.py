"""What one request came to: filled in on its way, read once at its end by the log and the metrics.

Nothing a client wrote goes in here but what is in a closed set: no prompt, no key, no header.
"""

from dataclasses import dataclass, field
from time import perf_counter

from gateway.core.model import Caller, ImageRequest
from gateway.quota.status import Standing

OTHER = "other"
"""The label of a request whose model, size or quality could not be read, or is not configured."""


@dataclass(slots=True)
class RequestRecord:
    """One request's record. Times are in seconds, money in micro-dollars.

    `waited` is the time spent waiting for others (the client's body, the upstream, a flight): what
    is left of the total is the gateway's own. `labels` are the request's model, size and quality,
    each from a closed set. `fingerprint` is the answer's key in the cache.
    `standing` is set where the ledger was touched. `left` says that the client hung up on a
    purchase, which goes on without it. `route` is what was asked for where that is no image:
    "models", "quota", "usage" or "unknown". `phases` are the gateway's own parts, in their order,
    for the Server-Timing header.
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
    standing: Standing | None = None
    waited: float = 0.0
    upstream: float | None = None
    left: bool = False
    route: str | None = None
    phases: dict[str, float] = field(default_factory=dict)
    _since: float = 0.0

    def lap(self, phase: str | None) -> None:
        """Put the time since the last lap (since the start, at first) down to `phase`, if any."""
        now = perf_counter()
        if phase is not None:
            self.phases[phase] = now - (self._since or self.started)
        self._since = now
