"""The settings, faults and counts of a sandbox, which may change while it runs."""

from collections import deque
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.upstream.sandbox.counts import Counts
from gateway.upstream.sandbox.faults import UpstreamFault

Answer = Literal["b64_json", "url", "both"]
Picture = Literal["drawn", "dot"]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class SandboxSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    """Settings of a sandbox. A change applies to the calls that begin after it.

    `api_key` None accepts any key, but not a missing one. The picture "dot" is one tiny constant
    image, for load tests. `latency` and `url_ttl` are in seconds.
    """

    api_key: str | None = None
    answer: Answer = "b64_json"
    latency: Seconds = 0.0
    url_ttl: Seconds = 3_600.0
    picture: Picture = "drawn"


class State:
    """The state of a sandbox. `faults` are used up in turn, then `fault` applies until a reset."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.counts = Counts()
        self.fault: UpstreamFault | None = None
        self.faults: deque[UpstreamFault] = deque()

    def reset_faults(self) -> None:
        """Remove all faults."""
        self.fault = None
        self.faults.clear()

    def next_fault(self) -> UpstreamFault | None:
        """Return the fault for the next request, and use it up once."""
        if not self.faults:
            used = self.fault
            self.fault = used and _used_once(used)
            return used
        fault = self.faults.popleft()
        if (rest := _used_once(fault)) is not None:
            self.faults.appendleft(rest)
        return fault

    def knows(self, authorization: str) -> bool:
        """Whether this Authorization header has a valid key."""
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and bool(key) and self.settings.api_key in (None, key)


def _used_once(fault: UpstreamFault) -> UpstreamFault | None:
    if fault.times is None:
        return fault
    return replace(fault, times=fault.times - 1) if fault.times > 1 else None
