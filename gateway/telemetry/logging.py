"""Logs: one line per event, as JSON or for terminals, without any text from a client.

The gateway's own lines hold only the fields that their callers chose. Lines of libraries (aiohttp,
asyncio) may hold anything, raw headers included, so only their place and level are logged. Of an
exception, the type and the places in the code are logged, never the text.

A line that cannot be written (a full disk, a reader that left) is lost: requests and money go
first. While serving, a thread writes the lines in batches, so a reader that stops reading (a stuck
pipe, a full disk, a paused terminal) blocks only this thread. Events wait in a bounded queue.
Further ones are dropped and counted, and once the reader continues a line reports their number.
"""

import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any, TextIO

import msgspec
import structlog

Event = MutableMapping[str, Any]

BATCH_SECONDS = 0.1
"""How often the waiting lines are written."""

BATCH_LINES = 1_000
"""The most lines that are written at once."""

MOST_WAITING = 20_000
"""The most events in the queue: some 20 MB."""

CLOSE_SECONDS = 2.0
"""How long a reader may take over the last lines."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def configure_logs(level: str, format: str, stream: TextIO = sys.stderr) -> None:
    """Set up the logs of this process. Each line is written at once.

    `format` is "json", "console", or "auto": console in a terminal, otherwise JSON.
    """
    _configure(level, _write_at_once(stream, _renderer(format, stream)))


@contextmanager
def logs_of_a_server(level: str, format: str, stream: TextIO = sys.stderr) -> Iterator[None]:
    """Set up the logs, written in batches by a thread until the block ends."""
    writer = _state.writer = LogWriter(stream.fileno(), _renderer(format, stream))
    _configure(level, writer.put)
    try:
        yield
    finally:
        finish_logs()


def finish_logs() -> None:
    """Write the lines that wait, within about 2 s. Call it before the process ends."""
    if _state.writer is not None:
        _state.writer.close()


def dropped_lines() -> int:
    """Return how many lines this process has dropped because nobody read them."""
    return 0 if _state.writer is None else _state.writer.dropped


def set_level(level: str) -> None:
    """Log events of this level and above from now on."""
    _state.level = _LEVELS[level]
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


class _State:
    """The level and writer in force. Loggers are cached, so they cannot hold the level."""

    level = _LEVELS["info"]
    writer: "LogWriter | None" = None


_state = _State()

_Put = Callable[[Event], None]


def _configure(level: str, put: _Put) -> None:
    structlog.configure(
        processors=[_drop_below_level, _exception_places, _complete],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        # A method for each level receives the complete events.
        logger_factory=lambda *_: SimpleNamespace(**dict.fromkeys(_LEVELS, put)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    set_level(level)


def _write_at_once(stream: TextIO, render: Callable[[Event], str]) -> _Put:
    def put(event: Event) -> None:
        line = render(event)
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            stream.write(f"{line}\n")
            stream.flush()

    return put


def _renderer(format: str, stream: TextIO) -> Callable[[Event], str]:
    if format == "json" or (format == "auto" and not stream.isatty()):
        return _json
    console = structlog.dev.ConsoleRenderer(colors=stream.isatty())

    def render(event: Event) -> str:
        return str(console(None, "", {**event, "timestamp": _iso(event["timestamp"])}))

    return render


def _json(event: Event) -> str:
    fields = {**event, "timestamp": _iso(event["timestamp"])}
    return msgspec.json.encode(fields, enc_hook=lambda value: type(value).__name__).decode()


def _iso(at: float) -> str:
    """Format a time as ISO 8601 in UTC, to the microsecond."""
    second, micros = divmod(round(at * 1_000_000), 1_000_000)
    return f"{_iso_second(second)}.{micros:06d}Z"


@lru_cache(2)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _drop_below_level(_: Any, method: str, event: Event) -> Event:
    if _LEVELS[method] < _state.level:
        raise structlog.DropEvent
    return event


def _complete(_: Any, method: str, event: Event) -> tuple[tuple[Event], dict[str, Any]]:
    """Add level and time, and make the event the only argument of the output's method."""
    event["level"] = method
    event["timestamp"] = time.time()
    return (event,), {}


def _exception_places(_: Any, method: str, event: Event) -> Event:
    """Replace `exc_info` by the exception's type and its places in the code.

    The field is not called "exception": the console renderer would print that as a traceback.
    """
    if "exc_info" not in event:
        return event
    failure = event.pop("exc_info")
    if failure is True:
        failure = sys.exception()
    if isinstance(failure, BaseException):
        event["failure"] = type(failure).__name__
        event["places"] = [
            f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
            for frame, line in walk_tb(failure.__traceback__)
        ]
    return event


class _Foreign(logging.Handler):
    """Logs the place and level of a library's log line, without its text."""

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        structlog.get_logger(source=record.name).warning(
            "library event",
            severity=record.levelname.lower(),
            place=f"{record.module}:{record.lineno}",
            exc_info=failure,
        )


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
