"""What a test or the control route may switch and read while a sandbox runs."""

from collections import deque
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from gateway.upstream.sandbox.counts import Counts
from gateway.upstream.sandbox.faults import Fault

Answer = Literal["b64_json", "url", "both"]


Picture = Literal["drawn", "dot"]


Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class SandboxSettings(Struct, kw_only=True):
    """`latency` and `url_ttl` in seconds. `api_key` None takes any key, as long as there is one.

    `picture` "dot" delivers one constant tiny picture: for load tests, where nothing else differs.
    All of it may be changed while the sandbox runs; calls under way keep what they began with.
    """

    api_key: str | None = None
    answer: Answer = "b64_json"
    latency: Seconds = 0.0
    url_ttl: Seconds = 3_600.0
    picture: Picture = "drawn"


class State:
    """`faults` are used up in turn; once there are none, `fault` applies until it is reset."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.counts = Counts()
        self.fault: Fault | None = None
        self.faults: deque[Fault] = deque()

    def reset_faults(self) -> None:
        """Nothing goes wrong from here on."""
        self.fault = None
        self.faults.clear()

    def next_fault(self) -> Fault | None:
        """The fault of the next request, used up by one."""
        if self.faults:
            fault = self.faults.popleft()
            if (rest := _less_one(fault)) is not None:
                self.faults.appendleft(rest)
            return fault
        used = self.fault
        self.fault = used and _less_one(used)
        return used

    def knows(self, authorization: str) -> bool:
        """Whether this Authorization header holds a key that works."""
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and bool(key) and self.settings.api_key in (None, key)


def _less_one(fault: Fault) -> Fault | None:
    if fault.times is None:
        return fault
    return replace(fault, times=fault.times - 1) if fault.times > 1 else None
