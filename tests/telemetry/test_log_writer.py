"""The thread that writes log lines: in order, whole, and never in the way of whoever logs."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.telemetry.log_writer import MOST_WAITING, Event, LogWriter


class Pipe:
    """A pipe that is read when a test says so."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def close(self) -> None:
        """Close what is still open of it."""
        self.close_writer()
        os.close(self.reader)

    def close_writer(self) -> None:
        """Let the reader see the end."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def read(self, lines: int) -> list[str]:
        """So many lines, waited for."""
        data = b""
        while data.count(b"\n") < lines:
            data += os.read(self.reader, 65_536)
        return data.decode().splitlines()

    def rest(self) -> list[str]:
        """Everything until the end."""
        self.close_writer()
        with os.fdopen(os.dup(self.reader), "rb") as reader:
            return reader.read().decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as pipe:
        yield pipe


def render(event: Event) -> str:
    return f"{event['event']} {event.get('lines', '')}".strip()


def numbered(count: int) -> list[Event]:
    return [{"event": f"{number:0100d}"} for number in range(count)]


def texts(events: list[Event]) -> list[str]:
    return [str(event["event"]) for event in events]


def test_lines_come_soon_and_in_their_order(pipe: Pipe) -> None:
    with closing(LogWriter(pipe.writer, render)) as writer:
        for each in numbered(300):
            writer.put(each)
        assert pipe.read(300) == texts(numbered(300))
        for each in numbered(300):
            writer.put(each)
    assert pipe.rest() == texts(numbered(300))  # closing writes the rest


def test_several_threads_lose_nothing(pipe: Pipe) -> None:
    events = numbered(100)
    with closing(LogWriter(pipe.writer, render)) as writer:

        def put_all() -> None:
            for each in events:
                writer.put(each)

        threads = [threading.Thread(target=put_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        found = pipe.read(400)
    assert sorted(found) == sorted(texts(events) * 4)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_pauses_blocks_nothing_and_misses_nothing(pipe: Pipe, blocking: bool) -> None:
    os.set_blocking(pipe.writer, blocking)
    with closing(LogWriter(pipe.writer, render)) as writer:
        for each in numbered(5_000):  # many times what a pipe takes
            writer.put(each)
        assert pipe.read(5_000) == texts(numbered(5_000))
        assert writer.dropped == 0


def test_lines_that_nobody_reads_are_dropped_and_reported(pipe: Pipe) -> None:
    events = numbered(2 * MOST_WAITING)
    with closing(LogWriter(pipe.writer, render)) as writer:
        for each in events:
            writer.put(each)
        dropped = writer.dropped
        assert 0 < dropped <= MOST_WAITING
        found = pipe.read(len(events) - dropped + 1)
        writer.put({"event": "after"})
        found += pipe.read(1)
    assert found[-1] == "after"
    reports = [line for line in found if line.startswith("log lines dropped")]
    assert reports == [f"log lines dropped {dropped}"]
    assert [line for line in found if line not in reports][:-1] == texts(events)[
        : len(events) - dropped
    ]


def test_closing_does_not_wait_for_the_reader(pipe: Pipe) -> None:
    writer = LogWriter(pipe.writer, render)
    for each in numbered(5_000):
        writer.put(each)
    writer.close(seconds=0.2)
    assert pipe.read(5_000) == texts(numbered(5_000))  # it had written a part, and goes on
    writer.close()


def test_a_line_that_cannot_be_rendered_is_the_only_one_lost(pipe: Pipe) -> None:
    def picky(event: Event) -> str:
        return {"fine": "fine"}[str(event["event"])]

    with closing(LogWriter(pipe.writer, picky)) as writer:
        for event in ("broken", "fine", "broken", "fine"):
            writer.put({"event": event})
        assert pipe.read(2) == ["fine", "fine"]


def test_a_reader_that_left_stops_nothing() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = LogWriter(descriptor, render)
    writer.put({"event": "unread"})
    writer.close()
    os.close(descriptor)
    assert writer.dropped == 0
