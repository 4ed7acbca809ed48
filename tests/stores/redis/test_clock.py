"""The Redis store's clock is the server's, and it never runs backwards."""

import asyncio
import time

from gateway.stores.port import Store
from gateway.stores.redis import names
from tests.conformance.store import MakeStore, held, put, spent
from tests.support.redis import RedisServer

HOUR = 3600


async def now(store: Store) -> float:
    return (await store.accounts.load([])).now


async def set_back(server: RedisServer, seconds: float) -> float:
    """Leave the marks that a swap leaves, as if the server's clock had been set back since."""
    microseconds = int((time.time() + seconds) * 1_000_000)
    async with server.client() as client:
        for mark in ("clock", "clock_wall"):
            await client.hset(names.META, mark, str(microseconds))
    return microseconds / 1_000_000


async def test_it_is_the_servers(store: Store) -> None:
    before = time.time()
    assert before - 0.01 <= await now(store) <= time.time() + 0.01


async def test_it_is_not_before_the_last_swap_and_does_not_stand_still(
    server: RedisServer, make_store: MakeStore
) -> None:
    async with make_store() as store:
        mark = await set_back(server, HOUR)
        assert mark - 0.01 <= await now(store) < mark + 1
        await put(store, "a", spent(1))
        first = await now(store)
        await asyncio.sleep(0.1)
        assert await now(store) - first >= 0.03
    async with make_store() as started:
        assert await now(started) >= mark


async def test_it_runs_at_half_speed_until_the_server_has_caught_up(
    server: RedisServer, store: Store
) -> None:
    mark = await set_back(server, 0.5)
    await put(store, "a", spent(1))
    started = time.time()
    while time.time() < started + 0.6:
        shown, real = await now(store), time.time()
        gone = real - started
        assert shown <= max(real, mark + gone / 2) + 0.2
    async with asyncio.timeout(10):
        while await now(store) > time.time() + 0.01:
            await put(store, "a", spent(1))


async def test_no_decision_is_followed_by_an_earlier_time(
    server: RedisServer, store: Store, other: Store
) -> None:
    ahead = await set_back(server, HOUR)
    await other.accounts.load(["a"])
    decided = await now(store)
    async with server.client() as client:  # the server's clock was only now set right
        await client.hdel(names.META, "clock", "clock_wall")
    assert await now(store) == decided
    await put(store, "a", held(x=decided + 5))
    for later in (store, other):
        assert await now(later) >= decided >= ahead - 1e-6  # a float, cut to microseconds


async def test_leases_run_out_by_the_servers_clock(server: RedisServer, store: Store) -> None:
    await put(store, "a", held(x=await now(store) + HOUR))
    assert await store.accounts.due() == []
    await set_back(server, HOUR + 1)
    assert await store.accounts.due() == ["a"]
