"""What a test or the control route may switch and read while a sandbox runs."""

from collections import deque

from msgspec.structs import replace

from gateway.upstream.sandbox.counts import Counts
from gateway.upstream.sandbox.faults import Fault
from gateway.upstream.sandbox.settings import SandboxSettings


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
