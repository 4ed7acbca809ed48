"""A clock that a test moves."""

import time
from collections.abc import Callable


class Clock:
    """A running clock that can be moved ahead, in seconds."""

    def __init__(self, runs: Callable[[], float] = time.monotonic) -> None:
        self._runs = runs
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._runs() + self.ahead
