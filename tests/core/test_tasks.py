import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service


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
    async with asyncio.timeout(1):
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
        async with asyncio.timeout(2):
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
