"""The suite for stores that use the wall clock of their machine."""

import asyncio

from tests.conformance.store import (
    NOON,
    MakeStoreByWall,
    Wall,
    held,
    put,
    spent,
)


class WallConformance:
    async def test_accounts_are_due_when_their_first_lease_runs_out(
        self, make_store: MakeStoreByWall
    ) -> None:
        wall = Wall(NOON)
        async with make_store(wall=wall) as store:
            await put(store, "soon", held(x=NOON + 200, y=NOON + 100))
            await put(store, "later", held(z=NOON + 1000))
            await put(store, "never", spent(1))
            assert await store.accounts.due() == []
            wall.now = NOON + 101
            assert await store.accounts.due() == ["soon"]
            wall.now = NOON + 1001
            assert set(await store.accounts.due()) == {"soon", "later"}
            await put(store, "soon", spent(1))
            assert await store.accounts.due() == ["later"]

    async def test_the_clock_follows_the_wall_and_never_runs_backwards(
        self, make_store: MakeStoreByWall
    ) -> None:
        wall = Wall(NOON)
        async with make_store(wall=wall) as store:
            former = 0.0
            for wall.now in (NOON, NOON + 1, NOON - 3600, NOON + 7200, 0.0, NOON + 7201):
                now = (await store.accounts.load(["a"])).now
                assert now >= max(former, wall.now)
                former = now
            assert former < NOON + 7260

    async def test_the_clock_goes_on_where_it_was_after_reopening_and_in_another_store(
        self, make_store: MakeStoreByWall
    ) -> None:
        async with make_store(wall=Wall(NOON)) as store, make_store(wall=Wall(0.0)) as other:
            decided = (await store.accounts.load(["a"])).now
            await put(store, "a", spent(1))
            assert decided <= (await other.accounts.load(["a"])).now < NOON + 60
        async with make_store(wall=Wall(NOON - 86_400)) as store:
            first = (await store.accounts.load(["a"])).now
            await asyncio.sleep(0.02)
            second = (await store.accounts.load(["a"])).now
            assert decided <= first < second < NOON + 60
            assert second - first >= 0.015  # it does not stand still until the wall catches up
