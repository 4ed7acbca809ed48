"""Clocks that tests move on."""

import time
from collections.abc import Callable


class Clock:
    """A clock that runs, and can be moved ahead by seconds."""

    def __init__(self, runs: Callable[[], float] = time.monotonic) -> None:
        self._runs = runs
        self.ahead = 0.0

    def __call__(self) -> float:
        return self._runs() + self.ahead
