"""The Redis store's clock is the server's, and it never runs backwards."""

import asyncio
import time

from redis.asyncio import Redis

from gateway.stores.port import Store
from gateway.stores.redis import names
from tests.conformance.store import MakeStore, held, put, spent

HOUR = 3600


async def now(store: Store) -> float:
    return (await store.accounts.load([])).now


async def set_back(client: Redis, seconds: float) -> float:
    """Leave the marks that a swap leaves, as if the server's clock had been set back since."""
    microseconds = int((time.time() + seconds) * 1_000_000)
    for mark in ("clock", "clock_wall"):
        await client.hset(names.META, mark, str(microseconds))
    return microseconds / 1_000_000


async def test_it_is_the_servers_and_leases_run_out_by_it(store: Store, client: Redis) -> None:
    before = time.time()
    assert before - 0.01 <= await now(store) <= time.time() + 0.01
    await put(store, "a", held(x=before + HOUR))
    assert await store.accounts.due() == []
    await set_back(client, HOUR + 1)
    assert await store.accounts.due() == ["a"]


async def test_it_is_not_before_the_last_swap_and_does_not_stand_still(
    make_store: MakeStore, client: Redis
) -> None:
    async with make_store() as store:
        mark = await set_back(client, HOUR)
        assert mark - 0.01 <= await now(store) < mark + 1
        await put(store, "a", spent(1))
        first = await now(store)
        await asyncio.sleep(0.1)
        assert await now(store) - first >= 0.03
    async with make_store() as started:
        assert await now(started) >= mark


async def test_it_runs_at_half_speed_until_the_server_has_caught_up(
    store: Store, client: Redis
) -> None:
    mark = await set_back(client, 0.5)
    await put(store, "a", spent(1))
    started = time.time()
    async with asyncio.timeout(20):
        while (shown := await now(store)) > (real := time.time()) + 0.01:
            assert shown <= max(real, mark + (real - started) / 2) + 0.2
            await put(store, "a", spent(1))


async def test_no_decision_is_followed_by_an_earlier_time(
    store: Store, other: Store, client: Redis
) -> None:
    ahead = await set_back(client, HOUR)
    await other.accounts.load(["a"])
    decided = await now(store)
    await client.hdel(names.META, "clock", "clock_wall")  # the clock was only now set right
    assert await now(store) == decided
    await put(store, "a", held(x=decided + 5))
    for later in (store, other):
        assert await now(later) >= decided >= ahead - 1e-6  # a float, cut to microseconds
