"""The suite for PurchaseStore, and for entries that `AccountStore.swap` writes with records."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from gateway.core.model import AuditEntry, Entry
from gateway.core.periods import DAY_SECONDS
from gateway.quota.account import EMPTY
from gateway.quota.purchase import PurchaseFilter, charged_entry
from gateway.quota.store import Change
from gateway.stores.archive_format import EntryRecord, PurchaseRecord
from gateway.stores.port import Store
from tests.conformance.store import (
    NOON,
    MakeStore,
    entry,
    images,
    purchase,
    put,
    refund,
    spent,
    unknown,
)
from tests.support.states import gathered

EVERYTHING = PurchaseFilter()
AUDIT = AuditEntry(at=NOON + 60, who="ops", action="purchase.refund", team="red", after={"a": 1})


async def ids(store: Store, wanted: PurchaseFilter = EVERYTHING, **more: Any) -> list[str]:
    """The ids of the wanted records."""
    found = await store.purchases.page(
        wanted, more.pop("state", None), more.pop("limit", 9), **more
    )
    return [each.id for each in found]


async def numbers(store: Store) -> dict[str, tuple[int, int, int, int]]:
    """Requests, images bought and unknown, and cost, by outcome; all reports must agree."""
    rows = await store.usage.report(("outcome",), None, None)
    for by in ((), ("team", "key"), ("day", "team"), ("hour",)):
        found = await store.usage.report(by, None, None)
        assert sum(row.cost for row in found) == sum(row.cost for row in rows)
        assert sum(row.requests for row in found) == sum(row.requests for row in rows)
    return {
        row.group[0]: (row.requests, row.images_bought, row.images_unknown, row.cost)
        for row in rows
    }


async def test_an_unknown_charge_is_kept_until_its_outcome(store: Store) -> None:
    written = [
        unknown("a"),
        entry("b"),
        unknown("c", request_id=None),
        entry("d", outcome="failed"),
    ]
    assert await store.accounts.swap([], written)
    assert await store.purchases.find("a") == purchase("a")
    assert await store.purchases.find("c") == purchase("c", request_id=None)
    for id in ("b", "d", "nobody"):
        assert await store.purchases.find(id) is None
    assert await store.accounts.swap([], [entry("a"), entry("c", outcome="failed")])
    assert await ids(store) == []
    assert await numbers(store) == {"bought": (2, 2, 0, 10), "failed": (2, 2, 0, 10)}


async def test_the_last_entry_of_a_swap_decides(store: Store) -> None:
    assert await store.accounts.swap([], [unknown("a"), entry("a"), unknown("b"), unknown("b")])
    assert await ids(store) == ["b"]
    assert await store.accounts.swap([], [unknown("b", images=3)])
    assert await store.purchases.find("b") == purchase("b", images=3)


async def test_a_swap_that_loses_writes_no_record(store: Store) -> None:
    await put(store, "team:red", spent(1))
    assert not await store.accounts.swap(
        [Change("team:red", 0, EMPTY)], [unknown("a")], audit=[AUDIT]
    )
    assert await ids(store) == []
    assert await store.audit.entries(None, None) == []


async def test_records_are_listed_page_by_page(store: Store) -> None:
    chosen = [
        unknown("a", at=NOON - 50),
        unknown("d", at=NOON + 0.25),
        unknown("b", team="blue"),
        unknown("c", request_id="shared"),
        unknown("e", at=NOON - 99.5, request_id="shared"),
    ]
    assert await store.accounts.swap([], chosen)
    assert await store.accounts.swap([], [refund("a", at=NOON - 50)])
    assert await ids(store) == ["d", "c", "b", "a", "e"]
    assert await ids(store, limit=2) == ["d", "c"]
    assert await ids(store, before=(NOON, "c"), limit=2) == ["b", "a"]
    assert await ids(store, before=(NOON - 50, "a")) == ["e"]
    assert await ids(store, state="unknown") == ["d", "c", "b", "e"]
    assert await ids(store, state="refunded") == ["a"]
    assert await ids(store, PurchaseFilter(team="blue")) == ["b"]
    assert await ids(store, PurchaseFilter(since=NOON)) == ["d", "c", "b"]
    assert await ids(store, PurchaseFilter(id="shared")) == ["c", "e"]
    assert await ids(store, PurchaseFilter(id="b")) == ["b"]
    assert await ids(store, PurchaseFilter(id="no", team="red")) == []


async def test_many_records_are_read_in_pieces(store: Store) -> None:
    names = [f"{number:04}" for number in range(1_100)]
    assert await store.accounts.swap([], [unknown(name, team=name[-1]) for name in names])
    assert await ids(store, limit=2_000) == names[::-1]
    assert await ids(store, PurchaseFilter(team="7"), limit=2_000) == names[7::10][::-1]


async def test_a_refund_replaces_the_charge_once(store: Store) -> None:
    await put(store, "team:red", spent(5))
    assert await store.accounts.swap([], [unknown("a"), unknown("b"), entry("c")])
    assert await store.accounts.swap(
        [Change("team:red", 1, spent(3))], [refund("a")], audit=[AUDIT]
    )
    assert await store.purchases.find("a") == refund("a").purchase
    assert await store.audit.entries(None, None) == [AUDIT]
    expected = {"bought": (1, 1, 0, 5), "failed": (1, 0, 0, 0), "unknown": (1, 2, 2, 10)}
    assert await numbers(store) == expected
    # It finds no unknown charge any more, as for a purchase that never had one.
    for id in ("a", "c", "nobody"):
        assert not await store.accounts.swap(
            [Change("team:red", 2, spent(1))], [refund(id)], audit=[AUDIT]
        )
    assert await images(store, "team:red") == 3
    assert await store.audit.entries(None, None) == [AUDIT]
    assert await numbers(store) == expected
    assert await ids(store) == ["b", "a"]


async def test_of_refunds_at_once_one_is_written(make_store: MakeStore) -> None:
    async with make_store() as store, make_store() as other:
        assert await store.accounts.swap([], [unknown("a")])
        parts = [store.accounts, other.accounts] * 5
        won = await asyncio.gather(*(part.swap([], [refund("a")], audit=[AUDIT]) for part in parts))
        assert sum(won) == 1
        assert await numbers(store) == {"failed": (1, 0, 0, 0)}
        assert await store.audit.entries(None, None) == [AUDIT]


async def test_an_outcome_after_a_refund_replaces_it(store: Store) -> None:
    assert await store.accounts.swap([], [unknown("a")])
    assert await store.accounts.swap([], [refund("a")])
    assert await store.accounts.swap([], [entry("a")])
    assert await store.purchases.find("a") is None
    assert await numbers(store) == {"bought": (1, 1, 0, 5)}


@pytest.mark.parametrize("packed", [True, False])
async def test_a_charge_that_is_only_in_sums_can_be_refunded(
    make_store: MakeStore, packed: bool
) -> None:
    at = NOON - 40 * DAY_SECONDS
    total = Entry(
        **{**asdict(charged_entry(purchase("a", at=at))), "id": "sum-1", "requests": 3},
    )
    others = replace(total, images_bought=7, images_unknown=7, cost=35)
    store = make_store()
    await store.archive.restore([EntryRecord(others), PurchaseRecord(purchase("a", at=at))])
    await store.close()
    async with make_store() as store:
        while packed and await store.usage.tidy(NOON, None):
            pass
        assert await store.accounts.swap([], [refund("a", at=at)])
        expected = {"failed": (1, 0, 0, 0), "unknown": (2, 5, 5, 25)}
        assert await numbers(store) == expected
        while await store.usage.tidy(NOON, None):
            pass
        assert await numbers(store) == expected
        exported = await gathered(store.archive.export())
        entries = [each.entry for each in exported if isinstance(each, EntryRecord)]
        assert sum(each.cost for each in entries) == 25
        assert min(min(each.requests, each.images_bought) for each in entries) >= 0


async def test_records_are_forgotten_with_the_usage(store: Store) -> None:
    old, recent = NOON - 90 * DAY_SECONDS, NOON - 10 * DAY_SECONDS
    assert await store.accounts.swap([], [unknown("a", at=old), unknown("b", at=recent)])
    while await store.usage.tidy(NOON, NOON - 30 * DAY_SECONDS):
        pass
    assert await ids(store) == ["b"]
    assert await store.purchases.find("a") is None
    assert not await store.accounts.swap([], [refund("a", at=old)])
    assert await numbers(store) == {"unknown": (1, 2, 2, 10)}


async def test_the_outcome_of_a_purchase(store: Store) -> None:
    now = (await store.accounts.load([])).now
    written = [entry("a", at=now), unknown("b", at=now), entry("c", at=now - 2 * DAY_SECONDS)]
    assert await store.accounts.swap([], [*written, entry("d", at=now, outcome="failed")])
    found = [await store.purchases.outcome(id) for id in ("a", "b", "c", "d", "e")]
    assert found == ["bought", "unknown", "bought", "failed", None]
