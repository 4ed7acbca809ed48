"""Background tasks, and the guarantees of every buffer that writes in the background."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service, WriteBehind


@pytest.fixture
async def background() -> Background:
    return Background("test")


async def test_a_task_outlives_the_garbage_collector(background: Background) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.02)
        ended.set()

    background.spawn(work())
    for _ in range(3):
        await asyncio.sleep(0)
        gc.collect()
    async with asyncio.timeout(10):
        await ended.wait()
    await background.close()


async def test_a_failure_is_logged(background: Background) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with capture_logs() as lines:
        background.spawn(fail())
        await asyncio.sleep(0.01)
    assert [(line["log_level"], line["group"]) for line in lines] == [("error", "test")]
    await background.close()


async def test_periodic_work_continues_after_a_failure(background: Background) -> None:
    turns = 0

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise StoreUnavailable
        if turns == 3:
            raise ZeroDivisionError

    with capture_logs() as lines:
        background.every(0.005, work, survive=StoreUnavailable)
        async with asyncio.timeout(10):
            while turns < 5:  # noqa: ASYNC110 - a turn sets no event
                await asyncio.sleep(0.005)
        await background.close()
    assert len(lines) == 1
    ended_at = turns
    await asyncio.sleep(0.03)
    assert turns == ended_at


async def test_periodic_runs_do_not_overlap(background: Background) -> None:
    running = most = turns = 0

    async def work() -> None:
        nonlocal running, most, turns
        running += 1
        turns += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    background.every(0.001, work)
    await asyncio.sleep(0.1)
    await background.close()
    assert most == 1
    assert turns <= 5


async def test_closing_waits_for_the_clean_up_of_a_cancelled_task(background: Background) -> None:
    tidied = False

    async def work() -> None:
        nonlocal tidied
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            tidied = True

    background.spawn(work())
    await asyncio.sleep(0)
    with capture_logs() as lines:
        await background.close()
        await background.close()
    assert tidied
    assert lines == []


async def test_a_service_that_fails_to_start_is_closed() -> None:
    class Failing(Service):
        running = False

        async def start(self) -> None:
            self.running = True
            raise StoreUnavailable

        async def close(self) -> None:
            self.running = False

    failing = Failing()
    with pytest.raises(StoreUnavailable):
        async with failing:
            pass
    assert not failing.running


# -- buffers ------------------------------------------------------------------------------------


async def nothing() -> None:
    pass


async def fail() -> None:
    raise StoreUnavailable


@dataclass(eq=False)
class Buffer(WriteBehind[list[int]]):
    """A buffer of numbers that writes to a list. `before` runs before each write."""

    name = "numbers"
    waiting: list[int] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] = nothing

    def collect(self) -> list[int] | None:
        batch, self.waiting = self.waiting, []
        return batch or None

    async def write(self, batch: list[int]) -> None:
        await self.before()
        self.batches.append(batch)


@pytest.fixture
def buffer() -> Buffer:
    return Buffer()


async def test_a_flush_writes_everything_as_one_batch(buffer: Buffer) -> None:
    buffer.waiting += [1, 2]
    await buffer.flush()
    buffer.waiting += [3]
    await buffer.flush()
    await buffer.flush()
    assert buffer.batches == [[1, 2], [3]]


async def test_batches_are_written_once_a_second_and_the_rest_at_the_end(buffer: Buffer) -> None:
    async with buffer:
        buffer.waiting += [1]
        async with asyncio.timeout(20):
            while not buffer.batches:  # noqa: ASYNC110 - a write sets no event
                await asyncio.sleep(0.05)
        assert buffer.batches == [[1]]
        buffer.waiting += [2]
    assert buffer.batches == [[1], [2]]


async def test_closing_during_a_write_writes_that_batch_again(buffer: Buffer) -> None:
    writing = asyncio.Event()

    async def hang() -> None:
        writing.set()
        await asyncio.Event().wait()

    buffer.before = hang
    async with buffer:
        buffer.waiting += [1]
        async with asyncio.timeout(10):
            await writing.wait()
        buffer.before = nothing
    assert buffer.batches == [[1]]


async def test_closing_is_quiet_while_the_store_is_unavailable(buffer: Buffer) -> None:
    buffer.before = fail
    with capture_logs() as lines:
        async with buffer:
            buffer.waiting += [1]
    assert (buffer.batches, lines) == ([], [])


@pytest.mark.parametrize("written", [False, True])
async def test_a_batch_of_an_outage_is_written_again_as_it_was(
    buffer: Buffer, written: bool
) -> None:
    """Only its reply may be lost, so it may have been written already."""

    async def write_or_not_and_fail() -> None:
        if written:
            buffer.batches.append([1])
        raise StoreUnavailable

    buffer.before = write_or_not_and_fail
    for number in (1, 2, 3):
        buffer.waiting += [number]
        with pytest.raises(StoreUnavailable):
            await buffer.flush()
    buffer.before = nothing
    buffer.batches.clear()
    await buffer.flush()
    assert buffer.batches == [[1], [2, 3]]


async def test_a_batch_that_the_store_refuses_does_not_block_later_ones(buffer: Buffer) -> None:
    async def refuse() -> None:
        raise OverflowError

    buffer.before = refuse
    buffer.waiting += [1]
    with capture_logs() as lines:
        await buffer.flush()
    assert [(line["log_level"], line["buffer"]) for line in lines] == [("error", "numbers")]
    buffer.before = nothing
    buffer.waiting += [2]
    await buffer.flush()
    assert buffer.batches == [[2]]


async def test_one_write_runs_at_a_time_and_loses_no_additions(buffer: Buffer) -> None:
    alone = asyncio.Lock()

    async def slow() -> None:
        assert not alone.locked()
        async with alone:
            await asyncio.sleep(0.01)

    buffer.before = slow
    flushes = []
    for number in range(5):
        buffer.waiting += [number]
        flushes.append(asyncio.create_task(buffer.flush()))
        await asyncio.sleep(0.004)
    await asyncio.gather(*flushes)
    assert [number for batch in buffer.batches for number in batch] == [0, 1, 2, 3, 4]


async def test_a_failed_flush_beside_a_slow_one_loses_nothing(buffer: Buffer) -> None:
    async def slow() -> None:
        await asyncio.sleep(0.05)
        buffer.before = fail

    buffer.before = slow
    buffer.waiting += [1]
    first = asyncio.create_task(buffer.flush())
    await asyncio.sleep(0.01)
    buffer.waiting += [2]
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await buffer.flush()
    await asyncio.gather(first, return_exceptions=True)
    buffer.before = nothing
    await buffer.flush()
    assert buffer.batches == [[1], [2]]
