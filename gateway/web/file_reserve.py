"""Open files that a process holds back, for the time when it is out of file descriptors.

A port that cannot accept a connection can neither refuse it nor serve health checks. So some files
are held open from the start, and closed one by one to accept connections all the same.
"""

import os

from gateway.core.tasks import Service

RESERVED = 16
"""Enough for the admin port's clients: health checks, a monitoring system and an operator."""


class FileReserve(Service):
    """File descriptors held back, at most `size` of them."""

    def __init__(self, size: int = RESERVED) -> None:
        self._size = size
        self._held: list[int] = []

    def fill(self) -> bool:
        """Hold as many as can be had. If that is not all, return False and leave one free.

        A request needs the free one: metrics of the process come from files.
        """
        if len(self._held) == self._size:
            return True
        before = len(self._held)
        while len(self._held) <= self._size:
            try:
                # Opened each time, because the system also limits open files as such (ENFILE).
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        if len(self._held) > before:
            self.give()
        return len(self._held) == self._size

    def give(self) -> bool:
        """Free one. False if none is left."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True

    async def start(self) -> None:
        """Hold them."""
        self.fill()

    async def close(self) -> None:
        """Free all."""
        while self.give():
            pass
