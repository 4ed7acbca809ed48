"""The thread that writes log lines: in order, whole, and without delaying those that log."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing

import pytest

from gateway.telemetry.log_writer import MOST_WAITING, Event, LogWriter


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
    found = pipe.read(len(lines) - dropped + 1)
    report = f"log lines dropped {dropped}"
    assert found.count(report) == 1
    assert [line for line in found if line != report] == lines[: len(lines) - dropped]
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
