"""Log lines written by a thread of their own, in batches: whoever logs never waits for a reader.

A reader that stops reading (a stuck pipe, a full disk, a paused terminal) holds up this thread
alone. Events wait in their order, a bounded number of them; those beyond it are dropped and
counted, and a line tells how many once the reader reads again.
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
"""How long a line may wait for others to be written with it."""

BATCH_LINES = 1_000
"""This many are written at once, and are not waited for."""

MOST_WAITING = 20_000
"""Events waiting at most: some 20 MB."""

CLOSE_SECONDS = 2.0
"""How long a reader may take over the last lines."""


class LogWriter:
    """Takes events, and writes their lines to a file descriptor.

    `render` makes a line of an event, without its end. It runs in the thread, so an event must
    not change once it is put.
    """

    def __init__(self, descriptor: int, render: Callable[[Event], str]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._render = render
        self._waiting: deque[Event] = deque()
        self._told = 0
        self._some = threading.Event()
        self._hurry = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Have an event written; it is dropped where too many wait."""
        waiting = len(self._waiting)
        if waiting >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(event)
        if not waiting:
            self._some.set()
        if waiting >= BATCH_LINES:
            self._hurry.set()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, as far as the reader takes it within `seconds`, and end."""
        self._closed = True
        self._some.set()
        self._hurry.set()
        self._thread.join(seconds)

    # -- in the thread --------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            self._some.wait()
            self._hurry.wait(BATCH_SECONDS)
            # Before the queue is read: what is put from now on sets them again.
            self._some.clear()
            self._hurry.clear()
            self._write_batches()
        self._write_batches()  # what was put just before the end

    def _write_batches(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_LINES, len(self._waiting)))]
            self._write(b"".join(map(self._line, batch)))
            self._tell_dropped()

    def _line(self, event: Event) -> bytes:
        try:
            return f"{self._render(event)}\n".encode()
        except Exception:  # noqa: BLE001 - one line must not end the thread that writes all of them
            return b""

    def _tell_dropped(self) -> None:
        """A line in the place of those that were dropped: the queue has flowed on."""
        dropped = self.dropped
        if dropped == self._told:
            return
        event = {
            "event": "log lines dropped",
            "source": "logs",
            "lines": dropped - self._told,
            "level": "warning",
            "timestamp": time.time(),
        }
        self._told = dropped
        self._write(self._line(event))

    def _write(self, data: bytes) -> None:
        """Write all of it, or lose what cannot be written: a full disk, a reader that left."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the descriptor has set it so
                select.select((), (self._descriptor,), ())
            except OSError:
                return
