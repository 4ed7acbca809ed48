"""Writes log lines in batches from its own thread, so the gateway never waits for a log reader.

A reader that stops reading (a stuck pipe, a full disk, a paused terminal) only blocks this thread.
Events wait in a bounded queue. Further ones are dropped and counted, and once the reader continues
a line reports how many were dropped.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

Event = MutableMapping[str, Any]

BATCH_SECONDS = 0.1
"""How often the waiting lines are written."""

BATCH_LINES = 1_000
"""The most lines that are written at once."""

MOST_WAITING = 20_000
"""The most events in the queue: some 20 MB."""

CLOSE_SECONDS = 2.0
"""How long a reader may take over the last lines."""


class LogWriter:
    """Writes events as lines to a file descriptor.

    `render` makes an event's line, without the line end. It runs in the thread, so an event must
    not change after `put`. `dropped` counts the events that found the queue full.
    """

    def __init__(self, descriptor: int, render: Callable[[Event], str]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._render = render
        self._waiting: deque[Event] = deque()
        self._reported = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event. It is dropped if too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
        else:
            self._waiting.append(event)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write the queue, as far as the reader takes it within `seconds`, and stop."""
        self._closing.set()
        self._thread.join(seconds)

    # -- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing.wait(BATCH_SECONDS):
            self._write_batches()
        self._write_batches()  # events that came just before the end

    def _write_batches(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_LINES, len(self._waiting)))]
            self._write(b"".join(map(self._line, batch)))
            self._report_dropped()

    def _line(self, event: Event) -> bytes:
        try:
            return f"{self._render(event)}\n".encode()
        except Exception:  # noqa: BLE001 - one line must not end the thread that writes all of them
            return b""

    def _report_dropped(self) -> None:
        """Write a line in the place of those that were dropped."""
        dropped = self.dropped
        if dropped == self._reported:
            return
        event = {
            "event": "log lines dropped",
            "source": "logs",
            "lines": dropped - self._reported,
            "level": "warning",
            "timestamp": time.time(),
        }
        self._reported = dropped
        self._write(self._line(event))

    def _write(self, data: bytes) -> None:
        """Write the data. It is lost if that fails: a full disk, a reader that left."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the descriptor has set it so
                select.select((), (self._descriptor,), ())
            except OSError:
                return
