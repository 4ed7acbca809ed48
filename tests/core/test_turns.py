"""Turns of the event loop: their size is kept, nobody overtakes, and nobody is forgotten."""

import asyncio

import pytest

from gateway.core.turns import Turns


async def test_few_callers_do_not_wait() -> None:
    turns = Turns(3)
    for _ in range(5):
        for _ in range(3):
            with pytest.raises(StopIteration):  # it has ended without a wait
                turns.take().send(None)
        await asyncio.sleep(0)


async def test_a_crowd_goes_on_in_its_order_and_a_few_at_a_time() -> None:
    turns, done, now = Turns(3), dict[int, int](), 0

    async def work(number: int) -> None:
        await turns.take()
        done[number] = now

    tasks = [asyncio.create_task(work(number)) for number in range(100)]
    tasks[50].cancel()
    tasks[2].cancel()
    while not all(task.done() for task in tasks):
        now += 1
        await asyncio.sleep(0)
    assert list(done) == [number for number in range(100) if number not in (2, 50)]
    counts = [list(done.values()).count(turn) for turn in range(now + 1)]
    assert max(counts) == 3
    assert sum(counts) == 98


async def test_a_caller_that_leaves_while_it_waits_blocks_nobody() -> None:
    turns = Turns(1)
    tasks = [asyncio.create_task(turns.take()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[1:-1]:
        task.cancel()
    await asyncio.wait_for(tasks[-1], timeout=5)
    await turns.take()
