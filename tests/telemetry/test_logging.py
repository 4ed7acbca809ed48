"""Logs: what they say, and what they never repeat."""

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
    """Logs are of the whole process: what was set up here ends here."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_level_time_and_fields() -> None:
    stream = io.StringIO()
    configure_logs("info", "json", stream)
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


def test_auto_is_json_but_readable_in_a_terminal() -> None:
    stream, terminal = io.StringIO(), Terminal()
    configure_logs("info", "auto", stream)
    structlog.get_logger().info("seen")
    configure_logs("info", "auto", terminal)
    structlog.get_logger().info("seen")
    assert lines(stream)[0]["event"] == "seen"
    assert "seen" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


@pytest.mark.parametrize(
    ("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_a_level_logs_itself_and_those_above(level: str, seen: int) -> None:
    stream = io.StringIO()
    configure_logs(level, "json", stream)
    log = structlog.get_logger()
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert len(lines(stream)) == seen


def test_the_level_changes_for_loggers_that_are_in_use() -> None:
    stream = io.StringIO()
    configure_logs("warning", "json", stream)
    log = structlog.get_logger()
    log.info("unseen")
    set_level("info")
    log.info("seen")
    log.debug("unseen")
    set_level("error")
    log.warning("unseen")
    assert [line["event"] for line in lines(stream)] == ["seen"]


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_exception_is_logged_by_type_and_places_without_its_text(format: str) -> None:
    stream = io.StringIO()
    configure_logs("debug", format, stream)
    log = structlog.get_logger()
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
    stream = io.StringIO()
    configure_logs("debug", format, stream)
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
