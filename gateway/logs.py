"""Logs: one line an event, JSON or readable, with nothing in it that a client wrote.

Our own lines carry only fields that their callers chose. Lines of the libraries (aiohttp, asyncio)
may hold anything, raw headers included: of those, only the place and the kind are told. The same
goes for exceptions: their type and the places they passed, never their text.

A line that cannot be written (a full disk, a reader that left) is lost, and that is all: whoever
logs has an answer to give, or money to write down.
"""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import Any, TextIO, cast

import msgspec
import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(level: str, format: str, stream: TextIO = sys.stderr) -> None:
    """Set up the process's logs. `format` is json, console, or auto: console in a terminal."""
    if format == "auto":
        format = "console" if stream.isatty() else "json"
    renderer: Any = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    if format == "json":
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    structlog.configure(
        processors=[
            _drop_below_level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception_places,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS["debug"]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Output(stream))),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    set_level(level)


def set_level(level: str) -> None:
    """Pass events of this level and graver ones from now on."""
    _passing.level = _LEVELS[level]
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


class _Passing:
    """The level that is in force. Loggers keep what they were made with, so none can have it."""

    level = _LEVELS["info"]


_passing = _Passing()


def _drop_below_level(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if _LEVELS.get(method, _LEVELS["error"]) < _passing.level:
        raise structlog.DropEvent
    return event


class _Output:
    """A stream that takes whatever is written, and loses what it cannot pass on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _json(event: Any, **_: Any) -> str:
    return msgspec.json.encode(event, enc_hook=lambda value: type(value).__name__).decode()


def _exception_places(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace `exc_info` by the exception's type and the places it passed.

    Not as "exception": the renderer for terminals would give that a line of its own.
    """
    failure = event.pop("exc_info", None)
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
