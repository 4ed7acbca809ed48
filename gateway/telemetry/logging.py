"""Logs: one line an event, JSON or readable, with nothing in it that a client wrote.

Our own lines carry only fields that their callers chose. Lines of the libraries (aiohttp, asyncio)
may hold anything, raw headers included: of those, only the place and the kind are told. The same
goes for exceptions: their type and the places they passed, never their text.

A line that cannot be written (a full disk, a reader that left) is lost, and that is all: whoever
logs has an answer to give, or money to write down. While serving, lines are written by a thread of
their own (`gateway.telemetry.log_writer`), so that a reader that stops reading stops nothing else.
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
from typing import Any, TextIO

import msgspec
import structlog

from gateway.telemetry.log_writer import Event, LogWriter

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def configure_logs(level: str, format: str, stream: TextIO = sys.stderr) -> None:
    """Set up the process's logs: each line is written at once.

    `format` is json, console, or auto: console in a terminal.
    """
    _configure(level, _at_once(stream, _renderer(format, stream)))


@contextmanager
def logs_of_a_server(level: str, format: str, stream: TextIO = sys.stderr) -> Iterator[None]:
    """Logs as of `configure_logs`, but written in batches by a thread, until the block ends."""
    writer = _state.writer = LogWriter(stream.fileno(), _renderer(format, stream))
    _configure(level, writer.put)
    try:
        yield
    finally:
        finish_logs()


def finish_logs() -> None:
    """Write what waits, within about 2 s: to be called before the process ends."""
    if _state.writer is not None:
        _state.writer.close()


def dropped_lines() -> int:
    """How many lines this process has dropped because nobody read them."""
    return 0 if _state.writer is None else _state.writer.dropped


def set_level(level: str) -> None:
    """Pass events of this level and graver ones from now on."""
    _state.level = _LEVELS[level]
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


class _State:
    """What is in force. Loggers keep what they were made with, so none can have the level."""

    level = _LEVELS["info"]
    writer: LogWriter | None = None


_state = _State()

_Put = Callable[[Event], None]


def _configure(level: str, put: _Put) -> None:
    structlog.configure(
        processors=[_drop_below_level, _exception_places, _complete],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        logger_factory=lambda *_: _Output(put),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    set_level(level)


class _Output:
    """What structlog hands a complete event to, by the name of its level."""

    def __init__(self, put: _Put) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = put


def _at_once(stream: TextIO, render: Callable[[Event], str]) -> _Put:
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
    told = {**event, "timestamp": _iso(event["timestamp"])}
    return msgspec.json.encode(told, enc_hook=lambda value: type(value).__name__).decode()


def _iso(at: float) -> str:
    """A time as ISO 8601 in UTC, to the microsecond."""
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
    """The event with its level and time, as the one argument of the output's method."""
    event["level"] = method
    event["timestamp"] = time.time()
    return (event,), {}


def _exception_places(_: Any, method: str, event: Event) -> Event:
    """Replace `exc_info` by the exception's type and the places it passed.

    Not as "exception": the renderer for terminals would give that a line of its own.
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
    """Takes what libraries log, and tells where it came from and what kind it is."""

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        structlog.get_logger(source=record.name).warning(
            "library event",
            severity=record.levelname.lower(),
            place=f"{record.module}:{record.lineno}",
            exc_info=failure,
        )
