"""Keeps the process small after a burst of large answers.

By default, glibc maps new zeroed memory for each buffer of megabytes, and returns it at once, which
is slow. With limits large enough to avoid that, hundreds of megabytes stay in the process after a
burst. So the limits are raised, and an idle process gives its free memory back.

Other C libraries have no such settings: there nothing is done.
"""

import asyncio
import ctypes
from collections.abc import Callable
from functools import partial

from gateway.core.tasks import Background
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

MIB = 1 << 20

_OPTIONS = {
    _M_MMAP_THRESHOLD: 32 * MIB,  # the largest that glibc allows
    _M_TRIM_THRESHOLD: 128 * MIB,
    _M_ARENA_MAX: 2,  # the event loop and the store's thread: the others allocate little
}

IDLE_SECONDS = 5.0

LOOKS = 6
"""So many looks at an idle process give memory back in any case. Connections that end without a
request also leave memory: slow heads, TLS handshakes."""


def configure_malloc() -> None:
    """Set glibc's limits. Those in the environment (`MALLOC_...`) are replaced."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in _OPTIONS.items():
            libc.mallopt(option, value)


class MemoryTrimmer(Background, Observer):
    """Gives free memory back once no request and no purchase ended for `idle_seconds`.

    An idle process does it again from time to time.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        super().__init__("memory")
        self._idle_seconds = idle_seconds
        self._was_used = self._may_be_trimmed = False
        self._idle_looks = 0

    async def start(self) -> None:
        """Look regularly whether requests ended."""
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            self.every(self._idle_seconds, partial(self._look, libc.malloc_trim))

    def request_ended(self, record: RequestRecord, seconds: float) -> None:
        """Note that there may be memory to give back."""
        self._was_used = self._may_be_trimmed = True

    def late_purchase_ended(self, record: RequestRecord, failure: BaseException | None) -> None:
        """Note the same: its request ended long before."""
        self._was_used = self._may_be_trimmed = True

    async def _look(self, trim: Callable[[int], int]) -> None:
        self._idle_looks = 0 if self._was_used else self._idle_looks + 1
        if self._idle_looks and (self._may_be_trimmed or self._idle_looks % LOOKS == 0):
            await asyncio.to_thread(trim, 0)
            self._may_be_trimmed = False
        self._was_used = False
