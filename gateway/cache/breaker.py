"""Leaving alone for a while what just failed, so that an outage costs each caller little."""

import time
from collections.abc import Callable


class Breaker:
    """Says whether something that may be away is worth an attempt.

    After a failure nobody tries for `rest` seconds, then one does while the others go on without.
    `clock` counts seconds and never runs backwards.
    """

    def __init__(self, rest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._closed_until: float | None = None

    @property
    def resting(self) -> bool:
        """Whether nobody may try now."""
        return self._closed_until is not None and self._clock() < self._closed_until

    def allows(self) -> bool:
        """Whether the one who asks may try now; after a failure that is one in `rest` seconds."""
        if self.resting:
            return False
        if self._closed_until is not None:
            # Others wait for what comes of this attempt. If nobody ever says, a next one follows.
            self._closed_until = self._clock() + self._rest
        return True

    def failed(self) -> bool:
        """An attempt failed. True where this is the beginning of an outage."""
        begins = self._closed_until is None
        self._closed_until = self._clock() + self._rest
        return begins

    def worked(self) -> bool:
        """An attempt worked. True where this is the end of an outage."""
        ends = self._closed_until is not None
        self._closed_until = None
        return ends
