"""A circuit breaker: after a failure, attempts stop for a while, so an outage costs little."""

import time
from collections.abc import Callable


class Breaker:
    """Decides whether an attempt is allowed.

    After a failure no attempt is allowed for `rest` seconds. Then one caller may try, while the
    others still go without. `clock` returns seconds and never runs backwards.
    """

    def __init__(self, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._closed_until: float | None = None

    @property
    def resting(self) -> bool:
        """Whether no attempt is allowed now."""
        return self._closed_until is not None and self._clock() < self._closed_until

    def allows(self) -> bool:
        """Whether the caller may try now; after a failure, one caller in `rest` seconds may."""
        if self.resting:
            return False
        if self._closed_until is not None:
            # The others wait for this attempt. If it reports nothing, another one may try later.
            self._closed_until = self._clock() + self._rest
        return True

    def failed(self) -> bool:
        """Record a failed attempt. True if an outage begins with it."""
        begins = self._closed_until is None
        self._closed_until = self._clock() + self._rest
        return begins

    def worked(self) -> bool:
        """Record a successful attempt. True if an outage ends with it."""
        ends = self._closed_until is not None
        self._closed_until = None
        return ends
