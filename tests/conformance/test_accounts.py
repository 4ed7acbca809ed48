"""The suite for AccountStore: budgets, and the store's clock."""

import asyncio
import random

import pytest
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.core.periods import PeriodUsage
from gateway.quota.account import EMPTY
from gateway.quota.store import Change
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryWrite, UnknownTeam
from tests.conformance.store import PERIOD, MakeStore, entry, held, images, put, spend, spent
from tests.support.states import BUSY, KEY

FULL = replace(
    BUSY,
    day=PeriodUsage(PERIOD, 2**40, 2**53 + 1, 3, 4),
    holds=dict.fromkeys(map(str, range(500)), BUSY.holds["open"]),
)


async def test_each_swap_raises_the_version_by_one(store: Store) -> None:
    assert (await store.accounts.load(["a", "gateway"])).accounts == [(EMPTY, 0)] * 2
    assert (await store.accounts.load([])).accounts == []
    for version, account in enumerate((EMPTY, EMPTY, spent(2), spent(3))):
        assert await store.accounts.swap([Change("a", version, account)], [])
        assert (await store.accounts.load(["a"])).accounts == [(account, version + 1)]
        assert not await store.accounts.swap([Change("a", version, spent(9))], [])


@pytest.mark.parametrize("thorough", [False, True])
async def test_a_probe_writes_but_changes_no_account(make_store: MakeStore, thorough: bool) -> None:
    async with make_store() as store, make_store() as other:
        await put(store, "a", spent(1))
        await store.accounts.record([entry("e")])
        before = await other.accounts.load(["a", "b"])
        usage = await other.usage.report([], None, None)
        for _ in range(3):
            await store.accounts.probe(thorough=thorough)
        after = await other.accounts.load(["a", "b"])
        assert after.accounts == before.accounts == [(spent(1), 1), (EMPTY, 0)]
        assert after.now >= before.now
        assert await other.usage.report([], None, None) == usage
        assert await store.accounts.swap([Change("a", 1, spent(2))], [])
    with pytest.raises(StoreUnavailable):
        await store.accounts.probe(thorough=thorough)


async def test_an_account_comes_back_as_it_was_also_after_reopening(make_store: MakeStore) -> None:
    async with make_store() as store:
        await put(store, "a", FULL)
    async with make_store() as store, make_store() as other:
        assert (await store.accounts.load(["a"])).accounts == [(FULL, 1)]
        assert (await store.accounts.load(["a"])).accounts == [(FULL, 1)]
        await put(other, "a", spent(9))
        assert (await store.accounts.load(["a"])).accounts == [(spent(9), 2)]


async def test_of_two_swaps_of_the_same_version_one_wins(make_store: MakeStore) -> None:
    async with make_store() as one, make_store() as two:
        for version in (0, 1):
            for store in (one, two):
                assert (await store.accounts.load(["a"])).accounts[0][1] == version
            won = await asyncio.gather(
                one.accounts.swap([Change("a", version, spent(1))], [entry(f"one-{version}")]),
                two.accounts.swap([Change("a", version, spent(2))], [entry(f"two-{version}")]),
            )
            assert sorted(won) == [False, True]
            winner = spent(1 + won.index(True))
            assert (await two.accounts.load(["a"])).accounts == [(winner, version + 1)]
        assert (await one.usage.report([], None, None))[0].requests == 2


async def test_several_accounts_change_together_or_not_at_all(store: Store) -> None:
    await put(store, "b", spent(1))
    for stale in (0, 2, 99):
        changes = [Change("a", 0, spent(5)), Change("b", stale, spent(5))]
        assert not await store.accounts.swap(changes, [entry("e")])
        assert not await store.accounts.swap(changes[::-1], [entry("e")])
    assert not await store.accounts.swap([Change("never", 1, spent(5))], [entry("e")])
    loaded = await store.accounts.load(["b", "a", "never"])
    assert loaded.accounts == [(spent(1), 1), (EMPTY, 0), (EMPTY, 0)]
    assert await store.usage.report([], None, None) == []
    changes = [Change("a", 0, spent(5)), Change("b", 1, spent(6))]
    assert await store.accounts.swap(changes, [entry("e"), entry("f")])
    assert (await store.accounts.load(["a", "b"])).accounts == [(spent(5), 1), (spent(6), 2)]
    assert (await store.usage.report([], None, None))[0].requests == 2


async def test_an_entry_written_again_replaces_the_former(store: Store) -> None:
    unknown = entry("e", outcome="unknown", images_unknown=1)
    assert await store.accounts.swap([Change("a", 0, EMPTY)], [unknown, entry("other")])
    assert await store.accounts.swap([Change("a", 1, EMPTY)], [entry("e", cost=7)])
    (row,) = await store.usage.report([], None, None)
    assert (row.requests, row.images_bought, row.images_unknown, row.cost) == (2, 2, 0, 12)


async def test_written_returns_the_purchases_that_have_an_entry(store: Store, other: Store) -> None:
    now = (await store.accounts.load([])).now
    before = now - 7200
    entries = [entry("here", at=now), entry("before", at=before, outcome="failed")]
    assert await store.accounts.swap([Change("a", 0, EMPTY)], entries)
    asked = {"here": now, "before": before, "never": now, "nor": before}
    assert await other.accounts.written(asked) == {"here", "before"}
    assert await other.accounts.written({}) == set()


async def test_accounts_are_due_when_their_first_lease_has_run_out(store: Store) -> None:
    now = (await store.accounts.load([])).now
    await put(store, "later", held(z=now + 1000))
    await put(store, "never", spent(1))
    assert await store.accounts.due() == []
    await put(store, "long", held(x=now + 200, y=now - 60))
    await put(store, "just", held(z=now))
    assert await store.accounts.due() == ["long", "just"]
    await put(store, "long", held(x=now + 200))
    assert await store.accounts.due() == ["just"]
    await put(store, "just", spent(1))
    assert await store.accounts.due() == []


async def test_the_clock_is_the_same_for_all_and_goes_on(make_store: MakeStore) -> None:
    async with make_store() as one, make_store() as two:
        former = 0.0
        for turn in range(20):
            for store in (one, two):
                now = (await store.accounts.load(["a"])).now
                await put(store, "a", spent(turn))
                assert now >= former
                former = now
        first = (await one.accounts.load([])).now
        await asyncio.sleep(0.02)
        assert 0.015 <= (await two.accounts.load([])).now - first < 60
    async with make_store() as store:
        assert (await store.accounts.load([])).now > first


async def test_every_operation_is_observed(make_store: MakeStore) -> None:
    seen: list[tuple[str, bool]] = []

    def observe(operation: str, seconds: float, answered: bool) -> None:
        assert 0 <= seconds < 5
        if operation != "pool_wait":
            seen.append((operation, answered))

    async with make_store(observe=observe) as store:
        await store.accounts.load(["a"])
        assert not await store.accounts.swap([Change("a", 7, spent(1))], [])
        generation = (await store.directory.changes(0)).generation
        with pytest.raises(UnknownTeam):
            await store.directory.commit(generation, DirectoryWrite(keys=[KEY]))
    with pytest.raises(StoreUnavailable):
        await store.accounts.record([entry("e")])
    answered = [(name, True) for name in ("load", "swap", "changes", "commit")]
    assert seen == [*answered, ("record", False)]


async def test_a_cancelled_swap_happens_whole_or_not_at_all(store: Store) -> None:
    chance = random.Random(2)
    for turn in range(60):
        task = asyncio.create_task(spend(store, "a", str(turn), chance))
        await asyncio.sleep(chance.random() * 0.001)
        task.cancel()
        await asyncio.wait([task])
    await spend(store, "a", "last", chance)
    (row,) = await store.usage.report([], None, None)
    assert row.requests == await images(store, "a")
