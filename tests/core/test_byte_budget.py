"""Waiting for bytes of a budget: first come, first served, and nothing is lost on the way."""

import asyncio
from contextlib import suppress

import pytest

from gateway.core.byte_budget import ByteBudget, OverBudget
from tests.support.steps import until


class Holder:
    """A task that holds a part of a budget until it may go."""

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self.holds = False
        self._go = asyncio.Event()
        self._task = asyncio.create_task(self._hold(budget, size))

    async def _hold(self, budget: ByteBudget, size: int) -> None:
        async with budget.hold(size):
            self.holds = True
            await self._go.wait()

    async def end(self) -> None:
        self._go.set()
        await self._task

    async def cancel(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def begun(*holders: Holder) -> list[bool]:
    """Which of these hold their part, after all had their turns."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [holder.holds for holder in holders]


async def test_what_does_not_fit_waits_in_the_order_of_arrival() -> None:
    budget = ByteBudget(10)
    first, large, small = Holder(budget, 6), Holder(budget, 8), Holder(budget, 1)
    assert await begun(first, large, small) == [True, False, False]  # small would fit
    await first.end()
    assert await begun(large, small) == [True, True]
    await large.end()
    await small.end()
    assert budget.free == 10


async def test_more_than_the_whole_budget_is_refused() -> None:
    budget = ByteBudget(10)
    with pytest.raises(OverBudget):
        async with budget.hold(11):
            pass
    async with budget.hold(10):
        assert budget.free == 0
    assert budget.free == 10


async def test_one_that_leaves_the_queue_lets_the_next_one_in() -> None:
    budget = ByteBudget(10)
    first, large, small = Holder(budget, 5), Holder(budget, 10), Holder(budget, 5)
    await begun()
    await large.cancel()
    assert await begun(first, small) == [True, True]
    await first.cancel()
    await small.end()
    assert budget.free == 10


async def test_one_that_is_cancelled_as_its_turn_comes_gives_its_part_back() -> None:
    budget = ByteBudget(10)
    first, second, third = (Holder(budget, 10) for _ in range(3))
    await begun()
    await first.end()  # grants the second its part, before it runs
    await second.cancel()
    await until(lambda: third.holds)
    await third.end()
    assert budget.free == 10


async def test_parts_that_grow_never_wait_for_each_other() -> None:
    budget, order = ByteBudget(10), list[int]()

    async def grow(number: int) -> None:
        async with budget.grow() as part:
            await part.reach(5)
            await asyncio.sleep(0)
            await part.reach(9)
            order.append(number)
            await asyncio.sleep(0.01)
            await part.reach(10)

    growing = [asyncio.create_task(grow(number)) for number in range(4)]
    await until(lambda: bool(order))
    assert (order, budget.free) == ([0], 0)  # one goes beyond the budget
    async with asyncio.timeout(5):
        await asyncio.gather(*growing)
    assert sorted(order) == [0, 1, 2, 3]
    assert budget.free == 10
    async with asyncio.timeout(5), budget.grow() as one, budget.hold(5):
        await one.reach(5)
        await one.reach(10)  # the way beyond was given back


async def test_what_a_part_grew_by_is_given_back_even_after_a_refusal() -> None:
    budget = ByteBudget(10)
    async with budget.grow() as part:
        await part.reach(4)
        assert budget.free == 6
        with pytest.raises(OverBudget):
            await part.reach(11)
    assert budget.free == 10
