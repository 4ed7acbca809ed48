"""Flights: identical work in progress is shared, and each flight ends in one result for all."""

import asyncio
import gc
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.errors import Draining
from gateway.core.single_flight import Flights
from gateway.core.upstream_errors import UpstreamCut


class Work:
    """Work of a flight: it ends when a test lets it, and counts how often it was started."""

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.go_on = asyncio.Event()
        self.failure: BaseException | None = None

    async def __call__(self) -> str:
        self.started += 1
        try:
            await self.go_on.wait()
            if self.failure is not None:
                raise self.failure
            return f"picture {self.started}"
        finally:
            self.ended += 1


@pytest.fixture
async def flights() -> Flights[str]:
    return Flights()


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture(autouse=True)
async def noise() -> AsyncIterator[list[dict[str, Any]]]:
    """The event loop reports no problem, such as an exception that nobody retrieved."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    yield problems
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert problems == []


async def joined(flights: Flights[str], work: Work, name: str | None = "apple") -> tuple[bool, str]:
    flight = flights.lead_or_join(name, work)
    return flight.led, await flight.result()


async def test_two_hundred_at_once_are_one_flight(flights: Flights[str], work: Work) -> None:
    callers = [asyncio.create_task(joined(flights, work)) for _ in range(200)]
    await asyncio.sleep(0)
    assert len(flights) == 1
    assert flights.under_way("apple")
    work.go_on.set()
    results = await asyncio.gather(*callers)
    assert sum(led for led, _ in results) == 1
    assert {result for _, result in results} == {"picture 1"}
    assert work.started == 1
    assert (len(flights), flights.under_way("apple")) == (0, False)


@pytest.mark.parametrize("names", [("apple", "pear"), (None, None, None)])
async def test_flights_of_different_names_or_none_are_never_shared(
    flights: Flights[str], work: Work, names: tuple[str | None, ...]
) -> None:
    callers = [asyncio.create_task(joined(flights, work, name)) for name in names]
    await asyncio.sleep(0)
    assert len(flights) == len(names)
    work.go_on.set()
    assert all(led for led, _ in await asyncio.gather(*callers))
    assert (work.started, len(flights)) == (len(names), 0)


async def test_a_leader_that_leaves_does_not_affect_the_others(
    flights: Flights[str], work: Work
) -> None:
    leader = asyncio.create_task(joined(flights, work))
    await asyncio.sleep(0)
    others = [asyncio.create_task(joined(flights, work)) for _ in range(199)]
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert flights.under_way("apple")
    work.go_on.set()
    assert await asyncio.gather(*others) == [(False, "picture 1")] * 199
    assert (work.started, work.ended) == (1, 1)


async def test_a_flight_continues_without_callers(flights: Flights[str], work: Work) -> None:
    callers = [asyncio.create_task(joined(flights, work)) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert work.ended == 0
    work.go_on.set()
    await flights.drain(1)
    assert work.ended == 1


async def test_a_failure_is_reported_to_all_and_forgotten(
    flights: Flights[str], work: Work
) -> None:
    work.failure = UpstreamCut()
    callers = [asyncio.create_task(joined(flights, work)) for _ in range(50)]
    await asyncio.sleep(0)
    work.go_on.set()
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert {id(end) for end in ends} == {id(work.failure)}
    work.failure = None
    assert await joined(flights, work) == (True, "picture 2")


async def test_a_failure_reported_to_many_does_not_grow(flights: Flights[str], work: Work) -> None:
    work.failure = UpstreamCut()
    flight = flights.lead_or_join("apple", work)
    work.go_on.set()
    lengths = set()
    for _ in range(20):
        with pytest.raises(UpstreamCut) as failed:
            await flight.result()
        lengths.add(len(traceback.extract_tb(failed.value.__traceback__)))
    assert len(lengths) == 1


async def test_a_failure_that_nobody_awaits_is_not_reported(
    flights: Flights[str], work: Work
) -> None:
    work.failure = UpstreamCut()
    flights.lead_or_join("apple", work)
    work.go_on.set()
    await flights.drain(1)


async def test_a_flight_that_just_ended_is_not_joined(flights: Flights[str], work: Work) -> None:
    work.failure = UpstreamCut()
    seen: list[bool] = []

    async def look_at_once() -> None:
        flight = flights.lead_or_join("apple", work)
        with pytest.raises(UpstreamCut):
            await flight.result()

    work.go_on.set()
    flight = flights.lead_or_join("apple", work)
    # The first callback of the task's end: a request made in it comes after the failure.
    flight._task.add_done_callback(lambda task: seen.append(flights.under_way("apple")))
    with pytest.raises(UpstreamCut):
        await flight.result()
    assert seen == [False]
    await look_at_once()
    assert work.started == 2


async def test_the_end_of_an_old_flight_leaves_its_successor_alone(
    flights: Flights[str], work: Work
) -> None:
    old = flights.lead_or_join("apple", work)
    second: list[Any] = []
    late = Work()
    # Runs right as the old one ends, perhaps before it is forgotten.
    old._task.add_done_callback(lambda task: second.append(flights.lead_or_join("apple", late)))
    work.go_on.set()
    await old.result()
    await asyncio.sleep(0)
    assert flights.under_way("apple")
    assert flights.lead_or_join("apple", late).led is False
    late.go_on.set()
    await second[0].result()


# -- draining -----------------------------------------------------------------------------------


async def test_draining_waits_for_flights_in_progress(flights: Flights[str], work: Work) -> None:
    caller = asyncio.create_task(joined(flights, work))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, work.go_on.set)
    await flights.drain(5)
    assert await caller == (True, "picture 1")
    assert len(flights) == 0


async def test_draining_cancels_flights_that_do_not_end(flights: Flights[str], work: Work) -> None:
    callers = [asyncio.create_task(joined(flights, work, name)) for name in ("a", "a", None)]
    await asyncio.sleep(0)
    await flights.drain(0.05)
    assert (work.started, work.ended) == (2, 2)
    ends = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(end) for end in ends] == [Draining] * 3


async def test_draining_waits_for_the_cleanup_of_a_cancelled_flight(flights: Flights[str]) -> None:
    settled = asyncio.Event()

    async def charged() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            settled.set()
            raise UpstreamCut from None
        raise AssertionError

    flight = flights.lead_or_join("apple", charged)
    await flights.drain(0.01)
    assert settled.is_set()
    with pytest.raises(UpstreamCut):
        await flight.result()


async def test_draining_nothing_takes_no_time(flights: Flights[str]) -> None:
    async with asyncio.timeout(10):
        await flights.drain(60)
