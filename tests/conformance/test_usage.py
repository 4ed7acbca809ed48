"""The suite for UsageStore, and for `AccountStore.record`."""

import asyncio

import pytest

from gateway.core.model import UsageRow
from gateway.core.periods import HOUR_SECONDS
from gateway.quota.account import EMPTY
from gateway.quota.store import Change
from gateway.stores.archive_format import EntryRecord
from gateway.stores.port import Store
from tests.conformance.store import MIDNIGHT, MakeStore, entry
from tests.support.states import gathered

DAY = 86_400

LAST = MIDNIGHT - 0.0001
"""The last moment of the day before: 2026-02-28."""


async def fill(store: Store) -> None:
    """Write entries of three teams around a midnight, one of them by a swap."""
    await store.accounts.record(
        [
            entry("1", at=LAST, model="m1"),
            entry("2", at=MIDNIGHT, key="k2", images_bought=3),
            entry("3", at=MIDNIGHT + 5, model="m1", outcome="cached", requests=40),
            entry("4", at=MIDNIGHT + 6, team="Blue", cost=2**53 + 1),
        ]
    )
    last = entry("5", at=MIDNIGHT + 86_399.9999, team="ünï", images_unknown=1)
    assert await store.accounts.swap([Change("team:ünï", 0, EMPTY)], [last])


async def requests(store: Store, *by: str) -> dict[tuple[str, ...], int]:
    """Return requests by group, in the order of the rows."""
    return {row.group: row.requests for row in await store.usage.report(by, None, None)}


async def tidied(store: Store, now: float, before: float | None) -> None:
    """Tidy until nothing is left to do."""
    while await store.usage.tidy(now, before):
        pass


async def everything(store: Store) -> list[list[UsageRow]]:
    """Return usage in several groupings."""
    return [
        await store.usage.report(by, None, None)
        for by in ((), ("team", "key"), ("day",), ("hour", "team"), ("model", "outcome"))
    ]


async def test_days_are_utc_and_end_at_midnight_exactly(store: Store) -> None:
    await fill(store)
    by_day = await requests(store, "day")
    assert list(by_day.items()) == [(("2026-02-28",), 1), (("2026-03-01",), 43)]
    assert await requests(store, "day", "team") == {
        ("2026-02-28", "red"): 1,
        ("2026-03-01", "Blue"): 1,
        ("2026-03-01", "red"): 41,
        ("2026-03-01", "ünï"): 1,
    }


async def test_bounds_are_rounded_up_to_whole_hours(store: Store) -> None:
    await store.accounts.record(
        [entry("1", at=MIDNIGHT + 5), entry("2", at=MIDNIGHT + HOUR_SECONDS + 5)]
    )
    for start, end, requests in ((0, 1, 1), (1, 2 * HOUR_SECONDS, 1), (0, 7_200, 2)):
        (row,) = await store.usage.report([], MIDNIGHT + start, MIDNIGHT + end)
        assert row.requests == requests


async def test_a_number_too_large_to_store_is_refused(store: Store) -> None:
    with pytest.raises(OverflowError):
        await store.accounts.record([entry("e", cost=2**63)])
    await store.accounts.record([entry("f", cost=2**63 - 1)])
    assert (await store.usage.report([], None, None))[0].cost == 2**63 - 1


async def test_an_unknown_grouping_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="'prompt'"):
        await store.usage.report(["prompt"], None, None)


async def test_old_usage_is_forgotten(store: Store) -> None:
    old = [
        entry(f"{days}-{hours}", at=MIDNIGHT - days * DAY + hours * 3600)
        for days in (60, 59, 41, 40)
        for hours in (0, 23)
    ]
    await store.accounts.record(old)
    await tidied(store, MIDNIGHT, None)
    await fill(store)
    await tidied(store, MIDNIGHT, MIDNIGHT - 33 * DAY)
    assert list(await requests(store, "day")) == [("2026-02-28",), ("2026-03-01",)]
    assert (await store.usage.report([], None, None))[0].requests == 44
    for by in ("team", "model", "hour", "outcome"):
        assert sum((await requests(store, by)).values()) == 44
    exported = [r for r in await gathered(store.archive.export()) if isinstance(r, EntryRecord)]
    assert all(r.entry.at >= MIDNIGHT - 3600 for r in exported)


async def test_many_may_tidy_up_while_others_write(make_store: MakeStore) -> None:
    async def write(name: str) -> None:
        for number in range(40):
            at = MIDNIGHT + number * 977.0
            await store.accounts.record([entry(f"{name}{number}", at=at, team=f"t{number % 7}")])

    async def tidy() -> None:
        while not all(task.done() for task in writing):
            await tidied(other, MIDNIGHT + 2 * DAY, None)

    async with make_store() as store, make_store() as other:
        writing = [asyncio.create_task(write(name)) for name in "ab"]
        await asyncio.gather(*writing, *(tidy() for _ in range(3)))
        await tidied(store, MIDNIGHT + 2 * DAY, None)
        for by in ("team", "model", "hour", "day", "outcome"):
            assert sum((await requests(store, by)).values()) == 80
