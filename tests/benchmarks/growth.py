"""How the gateway's cost grows with teams, cache entries, and open holds in one team.

One gateway goes through all sizes. At each, hits and misses are measured: over all teams, over all
entries, and in the team with the holds.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct

from tests.benchmarks.cases import Effort
from tests.benchmarks.driver import Load, Taken, answer_once, ask_together, control, keep_asking
from tests.benchmarks.stage import Figures, Stage, fresh, stage

CONNECTIONS = 32

DIRECTORY_SECONDS = 0.6
"""After this a running gateway knows new teams and keys."""


class Point(Struct, frozen=True, kw_only=True):
    """The cost of hits and misses at one size. `last` marks the largest size."""

    what: str
    size: int
    last: bool
    hit: Figures
    miss: Figures


Points = AsyncIterator[Point]


async def teams(effort: Effort, sizes: Sequence[int]) -> Points:
    """Measure with growing numbers of teams, all of them asking."""
    async with stage() as on:
        keys: tuple[str, ...] = ()
        for size in sizes:
            keys += await on.keys(size - len(keys))
            await asyncio.sleep(DIRECTORY_SECONDS)
            hits = Load(keys=keys, first=fresh(), distinct=1)
            await answer_once(on.gateway.port, hits)
            yield await _point(on, effort, "teams", size, hits, last=size == sizes[-1])


async def entries(effort: Effort, sizes: Sequence[int]) -> Points:
    """Measure with growing numbers of cache entries, all requested in turn."""
    async with stage() as on:
        keys, first, there = await on.keys(1), fresh(), 0
        await asyncio.sleep(DIRECTORY_SECONDS)
        for size in sizes:
            await answer_once(
                on.gateway.port, Load(keys=keys, first=first + there, distinct=size - there)
            )
            there = size
            hits = Load(keys=keys, first=first, distinct=size)
            yield await _point(on, effort, "cache entries", size, hits, last=size == sizes[-1])


async def holds(effort: Effort, sizes: Sequence[int]) -> Points:
    """Measure with growing numbers of open purchases in the team that asks."""
    async with stage() as on:
        keys = await on.keys(1)
        await asyncio.sleep(DIRECTORY_SECONDS)
        hits = Load(keys=keys, first=fresh(), distinct=1)
        await answer_once(on.gateway.port, hits)
        async with _holding(on, keys) as hold:
            for size in sizes:
                await hold(size)
                yield await _point(on, effort, "open holds", size, hits, last=size == sizes[-1])


GROWTHS: dict[str, tuple[Callable[[Effort, Sequence[int]], Points], Sequence[int]]] = {
    "teams": (teams, (1, 100, 1_000)),
    "entries": (entries, (100, 10_000, 100_000)),
    "holds": (holds, (10, 200, 2_000)),
}
"""By name: the growth and the sizes of the full run."""


async def _point(
    on: Stage, effort: Effort, what: str, size: int, hits: Load, *, last: bool
) -> Point:
    misses = Load(keys=hits.keys, first=fresh())

    async def cost(load: Load) -> Figures:
        return await on.measure(
            on.gateway, lambda port: keep_asking(port, load, CONNECTIONS, effort.seconds)
        )

    return Point(what=what, size=size, last=last, hit=await cost(hits), miss=await cost(misses))


@asynccontextmanager
async def _holding(
    on: Stage, keys: tuple[str, ...]
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Yield a function that opens purchases up to a number; finish them at the end."""
    asking: list[asyncio.Task[Taken]] = []
    open_holds = 0

    async def hold(size: int) -> None:
        nonlocal open_holds
        load = Load(keys=keys, held="on", first=fresh())
        asking.append(asyncio.create_task(ask_together(on.gateway.port, load, size - open_holds)))
        open_holds = size
        while await control(on.mock.url, "/held") < size:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)

    try:
        yield hold
    finally:
        await control(on.mock.url, "/release")
        await asyncio.gather(*asking)
