"""The process's log in a stream of the test."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

from gateway.telemetry.logging import configure_logs


@contextmanager
def logging_to(stream: TextIO) -> Iterator[None]:
    """Write JSON lines at the level debug to the stream, until the block ends."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs("debug", "json", stream)
    # The modules' loggers must not keep this test's stream.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.reset_defaults()
        root.handlers = handlers
        root.setLevel(level)
