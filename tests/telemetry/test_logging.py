"""Logs: their lines, and the texts that they never repeat."""

import io
import json
import logging
import os
import secrets
from collections.abc import Iterator

import pytest
import structlog

from gateway.telemetry.logging import configure_logs, set_level

CANARY = secrets.token_hex(16)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logs belong to the whole process: restore them after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logs(level: str = "debug", format: str = "json") -> io.StringIO:
    """Set up the logs. Returns the stream that they are written to."""
    stream = io.StringIO()
    configure_logs(level, format, stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_level_time_and_fields() -> None:
    stream = logs("info", "auto")
    structlog.get_logger(source="web").info("request", status=200, odd=object(), text="é\nx")
    (line,) = lines(stream)
    assert line.pop("timestamp")
    assert line == {
        "event": "request",
        "level": "info",
        "source": "web",
        "status": 200,
        "odd": "object",
        "text": "é\nx",
    }


def test_logs_are_readable_in_a_terminal() -> None:
    terminal = Terminal()
    configure_logs("info", "auto", terminal)
    structlog.get_logger().info("seen")
    assert "seen" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_a_level_logs_itself_and_those_above_and_can_change() -> None:
    stream, log = logs(), structlog.get_logger()
    levels = ["debug", "info", "warning", "error"]
    for level in levels:
        set_level(level)
        for event in levels:
            getattr(log, event)(level)
    logged = [line["event"] for line in lines(stream)]
    assert {level: logged.count(level) for level in levels} == {
        "debug": 4,
        "info": 3,
        "warning": 2,
        "error": 1,
    }


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_is_logged_by_type_and_places_without_its_text(format: str) -> None:
    stream, log = logs(format=format), structlog.get_logger()
    try:
        _fail()
    except ValueError as failure:
        log.exception("failed", exc_info=failure)
        log.exception("failed")
        log.warning("failed", exc_info=True)
    output = stream.getvalue()
    assert CANARY not in output
    assert len(output.splitlines()) == 3
    assert output.count("ValueError") == 3
    assert output.count("test_logging.py") >= 3
    assert output.count("_fail") >= 3


def _fail() -> None:
    try:
        raise KeyError(CANARY)
    except KeyError:
        raise ValueError(f"cannot use {CANARY}") from None


@pytest.mark.parametrize("format", ["json", "console"])
def test_of_a_librarys_line_only_place_and_level_are_logged(format: str) -> None:
    stream = logs(format=format)
    library = logging.getLogger("aiohttp.server")
    library.debug("debug %s", CANARY)
    library.error("Error handling request %s", CANARY, extra={"canary": CANARY})
    library.error("one %s two %s", CANARY)  # bad arguments
    library.error(CANARY, exc_info=ValueError(CANARY))
    try:
        _fail()
    except ValueError:
        library.exception("with %s", CANARY)
    output = stream.getvalue()
    assert CANARY not in output
    assert len(output.splitlines()) == 4
    assert "aiohttp.server" in output
    assert "test_logging:" in output
    assert "ValueError" in output


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    configure_logs("info", "json", stream)
    structlog.get_logger().info("nobody reads")
    logging.getLogger("lib").error("nobody reads")
    with pytest.raises(BrokenPipeError):
        stream.close()
    structlog.get_logger().info("closed")
