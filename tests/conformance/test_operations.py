"""The suite for operations in an AccountStore: records that are swapped together with accounts."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.errors import StoreUnavailable
from gateway.quota.operations import NONE, Operation, Operations
from gateway.quota.store import Change, RecordChange
from gateway.stores.port import Store
from tests.conformance.store import MakeStore, entry, put, spent


def record(
    id: str = "first", *, ended: float = 0.0, at: float = 0.0, lease: float = 0.0
) -> Operations:
    """One operation. It is bought if it has ended."""
    operation = Operation(
        id=id,
        request="r",
        gateway="here",
        at=at,
        lease=lease,
        fresh=True,
        state="bought" if ended else "running",
        ended=ended,
        left=True,
        claim="c",
        claimant="there",
        claimed=7.5,
        failure=b"\x00\xff",
    )
    return Operations((operation,), succeeded=5.5)


def named(ended: float, **fields: Any) -> Operations:
    """An operation under a name, which was bought unless these fields say otherwise."""
    return Operations((replace(record(ended=ended).all[0], body="digest", **fields),))


async def read(store: Store, name: str = "k:1") -> tuple[Operations, bytes]:
    ((operations, stamp),) = (await store.accounts.load((), [name])).records
    return operations, stamp


async def write(
    store: Store, operations: Operations, name: str = "k:1", stamp: bytes | None = None
) -> bool:
    if stamp is None:
        _, stamp = await read(store, name)
    return await store.accounts.swap([], [], [RecordChange(name, stamp, operations)])


async def test_a_record_comes_back_as_it_was_with_a_new_stamp_each_time(
    make_store: MakeStore,
) -> None:
    async with make_store() as store, make_store() as other:
        assert await read(store) == (NONE, b"")
        stamps = set()
        for operations in (record(), record("second"), record("second")):
            assert await write(store, operations)
            found, stamp = await read(other)
            assert found == operations
            stamps.add(stamp)
        assert len(stamps) == 3


async def test_a_record_without_operations_is_deleted(store: Store) -> None:
    assert await write(store, record())
    _, stamp = await read(store)
    assert await write(store, NONE)
    assert await read(store) == (NONE, b"")
    assert not await write(store, record("late"), stamp=stamp)
    assert await write(store, NONE)  # there is none
    assert await write(store, record())


async def test_all_is_written_or_nothing(store: Store) -> None:
    await put(store, "a", spent(1))
    await write(store, record())
    _, stamp = await read(store)
    change = RecordChange("k:1", stamp, record("second"))
    stale = RecordChange("k:2", b"12345678", record())
    accounts = store.accounts
    assert not await accounts.swap([Change("a", 0, spent(2))], [], [change])
    assert not await accounts.swap([Change("a", 1, spent(2))], [entry("e")], [change, stale])
    assert not await accounts.swap(
        [Change("a", 1, spent(2))], [entry("e")], [RecordChange("k:1", b"", record())]
    )
    loaded = await accounts.load(["a"], ["k:1", "k:2"])
    assert loaded.accounts == [(spent(1), 1)]
    assert loaded.records == [(record(), stamp), (NONE, b"")]
    assert await accounts.written({"e": entry("e").at}) == set()
    assert await accounts.swap([Change("a", 1, spent(2))], [entry("e")], [change])
    assert (await read(store))[0] == record("second")


async def test_of_two_swaps_of_the_same_stamp_one_wins(make_store: MakeStore) -> None:
    async with make_store() as one, make_store() as two:
        for _ in range(3):
            _, stamp = await read(one)
            won = await asyncio.gather(
                write(one, record("one"), stamp=stamp), write(two, record("two"), stamp=stamp)
            )
            assert sorted(won) == [False, True]
            assert (await read(two))[0] == record("one" if won[0] else "two")


async def test_a_gateway_is_alive_for_as_long_as_it_says(make_store: MakeStore) -> None:
    async with make_store() as store, make_store() as other:
        assert await other.accounts.alive(["here", "there"]) == {}
        await store.accounts.keep_alive("here", 5.0)
        now = (await other.accounts.load([])).now
        ends = await other.accounts.alive(["here", "there"])
        assert ends.keys() == {"here"}
        assert now + 3.0 < ends["here"] <= now + 5.001
        await store.accounts.keep_alive("here", 50.0)
        assert (await other.accounts.alive(["here"]))["here"] > now + 45.0
    with pytest.raises(StoreUnavailable):
        await store.accounts.keep_alive("here", 5.0)


async def test_records_are_forgotten_after_their_end_and_bought_ones_where_there_are_many(
    store: Store,
) -> None:
    now = (await store.accounts.load([])).now
    await write(store, record(ended=now - 700.0), "over")
    await write(store, record(at=now, lease=now), "running")
    for number in range(5):
        await write(store, record(ended=now - 100.0 + number), f"bought {number}")
    await store.accounts.forget_operations(4)
    names = ["over", "running", *(f"bought {number}" for number in range(5))]
    loaded = await store.accounts.load((), names)
    kept = [name for name, (found, _) in zip(names, loaded.records, strict=True) if found.all]
    assert kept == ["running", "bought 2", "bought 3", "bought 4"]
    await store.accounts.forget_operations(0)
    assert (await read(store, "bought 4"))[0] == NONE
    assert (await read(store, "running"))[0] != NONE


async def test_a_full_store_forgets_what_cost_nothing_before_what_was_bought(store: Store) -> None:
    now = (await store.accounts.load([])).now
    states = {
        "running": record(at=now, lease=now),
        "unknown": named(now - 60.0, state="unknown"),
        "bought 1": named(now - 50.0),
        "bought 2": named(now - 40.0),
        "free 2": named(now - 20.0, free=True),
        "free 1": named(now - 30.0, free=True),
        "failed": named(now - 25.0, state="failed"),
    }
    for name, operations in states.items():
        await write(store, operations, name)
    left = list(states)
    for name in ("free 1", "failed", "free 2", "bought 1", "bought 2"):
        await store.accounts.forget_operations(len(left) - 1)
        left.remove(name)
        loaded = await store.accounts.load((), list(states))
        found = zip(states, loaded.records, strict=True)
        assert [name for name, (operations, _) in found if operations.all] == left


async def test_a_record_that_was_free_is_kept_longer_once_it_is_bought(store: Store) -> None:
    now = (await store.accounts.load([])).now
    await write(store, named(now - 30.0, free=True), "first")
    await write(store, named(now - 20.0, free=True), "second")
    await write(store, named(now - 30.0), "first")
    await store.accounts.forget_operations(1)
    assert [(await read(store, name))[0].all != () for name in ("first", "second")] == [True, False]


async def test_however_many_records_have_ended_all_of_them_are_forgotten(store: Store) -> None:
    now = (await store.accounts.load([])).now
    names = [f"over {number}" for number in range(2_100)]
    changes = [RecordChange(name, b"", record(ended=now - 700.0)) for name in names]
    assert await store.accounts.swap([], [], changes)
    await store.accounts.forget_operations(10_000)
    assert {stamp for _, stamp in (await store.accounts.load((), names)).records} == {b""}
