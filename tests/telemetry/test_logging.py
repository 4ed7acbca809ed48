"""Logs: their lines, the texts that they never repeat, and the thread that writes them."""

import io
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest
import structlog

from gateway.telemetry.logging import (
    MOST_WAITING,
    Event,
    LogWriter,
    configure_logs,
    set_level,
)

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


# -- the thread that writes the lines of a server -----------------------------------------------


class Pipe:
    """A pipe whose lines a test reads."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader, self.writer = os.fdopen(reader), os.fdopen(writer, "w")

    def read(self, lines: int) -> list[str]:
        """Read so many lines, which may still have to come."""
        return [self.reader.readline().rstrip("\n") for _ in range(lines)]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    with pipe.reader, pipe.writer:
        yield pipe


@pytest.fixture
def writer(pipe: Pipe) -> Iterator[LogWriter]:
    with closing(LogWriter(pipe.writer.fileno(), render)) as writer:
        yield writer


def render(event: Event) -> str:
    return f"{event['event']} {event.get('lines', '')}".strip()


def put_all(writer: LogWriter, texts: Iterable[str]) -> None:
    for text in texts:
        writer.put({"event": text})


LINES = [f"{number:0100d}" for number in range(5_000)]
"""Many times more than a pipe takes."""


def test_lines_come_soon_and_in_their_order(pipe: Pipe, writer: LogWriter) -> None:
    put_all(writer, LINES[:300])
    assert pipe.read(300) == LINES[:300]
    put_all(writer, LINES[300:600])
    writer.close()  # writes the rest
    pipe.writer.close()
    assert pipe.reader.read().splitlines() == LINES[300:600]


def test_several_threads_lose_nothing(pipe: Pipe, writer: LogWriter) -> None:
    threads = [threading.Thread(target=put_all, args=(writer, LINES[:100])) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert sorted(pipe.read(400)) == sorted(LINES[:100] * 4)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_pauses_blocks_nothing_and_misses_nothing(
    pipe: Pipe, writer: LogWriter, blocking: bool
) -> None:
    os.set_blocking(pipe.writer.fileno(), blocking)
    put_all(writer, LINES)
    assert pipe.read(len(LINES)) == LINES
    assert writer.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_reported(pipe: Pipe, writer: LogWriter) -> None:
    lines = [f"{number:0100d}" for number in range(2 * MOST_WAITING)]
    put_all(writer, lines)
    dropped = writer.dropped
    assert 0 < dropped <= MOST_WAITING
    found, reported = list[str](), 0
    while reported < dropped:  # in several reports if the writer took lines meanwhile
        (line,) = pipe.read(1)
        if line.startswith("log lines dropped "):
            reported += int(line.rpartition(" ")[2])
        else:
            found.append(line)
    found += pipe.read(len(lines) - dropped - len(found))
    assert reported == dropped
    assert found == sorted(set(lines).intersection(found))
    put_all(writer, ["after"])
    assert pipe.read(1) == ["after"]


def test_closing_does_not_wait_for_the_reader(pipe: Pipe, writer: LogWriter) -> None:
    put_all(writer, LINES)
    writer.close(seconds=0.2)
    assert pipe.read(len(LINES)) == LINES  # it had written a part, and goes on


def test_a_line_that_cannot_be_rendered_is_the_only_one_lost(pipe: Pipe, writer: LogWriter) -> None:
    for event in ({}, {"event": "fine"}, {}, {"event": "fine"}):
        writer.put(event)
    assert pipe.read(2) == ["fine", "fine"]


def test_a_reader_that_left_stops_nothing(pipe: Pipe, writer: LogWriter) -> None:
    pipe.reader.close()
    put_all(writer, ["unread"])
    writer.close()
    assert writer.dropped == 0
