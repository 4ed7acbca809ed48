"""Logs: one line per event, as JSON or for terminals, without any text from a client.

The gateway's own lines hold only the fields that their callers chose. Lines of libraries (aiohttp,
asyncio) may hold anything, raw headers included, so only their place and level are logged. Of an
exception, the type and the places in the code are logged, never the text.

A line that cannot be written (a full disk, a reader that left) is lost: requests and money go
first. While serving, a thread writes the lines (`gateway.telemetry.log_writer`), so a reader that
stops reading blocks nothing else.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any, TextIO

import msgspec
import structlog

from gateway.telemetry.log_writer import Event, LogWriter

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
    writer: LogWriter | None = None


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
