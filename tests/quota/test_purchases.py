"""Operations on single purchases, over both kinds of store."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.errors import StoreUnavailable
from gateway.core.model import Limits, Team
from gateway.core.periods import utc
from gateway.quota import purchases
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.ledger import Ledger
from gateway.quota.purchase import Purchase, PurchaseFilter
from gateway.quota.purchases import PurchaseStores
from gateway.quota.steps import Held, Reserve
from gateway.stores.port import Store
from gateway.tenants.changes import Actor, OperationError, UnknownName
from tests.conformance.store import MakeStore
from tests.support.directory import put_teams
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import release, reserve, settle
from tests.support.steps import until
from tests.support.stores import KINDS, Places

LIMITS = Limits(images_per_day=1_000)
OPS = Actor("admin token ops", 1_772_366_400.5)
EVERYTHING = PurchaseFilter()


@pytest.fixture(params=KINDS)
def make_store(request: pytest.FixtureRequest, places: Places) -> MakeStore:
    return places.new(request.param)


@pytest.fixture
async def ledger(store: Store) -> AsyncIterator[Ledger]:
    await put_teams(store.directory, [Team(name="red"), Team(name="blue")])
    ledger = Ledger(store.accounts, spread=random.random)
    await ledger.start()
    yield ledger
    await ledger.close()


def parts(store: Store | FaultyStore) -> PurchaseStores:
    return PurchaseStores(store.accounts, store.directory, store.purchases)


async def held(ledger: Ledger, id: str, team: str = "red", **fields: Any) -> Reserve:
    """A purchase of two images, limited by key and gateway too, that is under way."""
    step = reserve(id, team, 2, gateway_limits=LIMITS, key_limits=LIMITS, **fields)
    assert isinstance(await ledger.reserve(step), Held)
    return step


async def unknown(ledger: Ledger, *ids: str, team: str = "red", **fields: Any) -> None:
    """Purchases of two images that are charged as unknown."""
    for id in ids:
        await held(ledger, id, team, **fields)
        await ledger.finish(settle(id, team, 2, unknown=True))


async def refund(store: Store | FaultyStore, id: str, by: Actor = OPS) -> Purchase:
    return await purchases.refund_purchase(parts(store), id, "not billed", by)


async def listed(store: Store, state: str | None = None, **filters: object) -> list[str]:
    wanted = PurchaseFilter(**filters)  # type: ignore[arg-type]
    found = await purchases.list_purchases(parts(store), wanted, state, 9)  # type: ignore[arg-type]
    return [f"{each.id} {each.state}" for each in found]


async def charged(store: Store, team: str = "red") -> set[tuple[int, int]]:
    """Images and cost by day and month of the team, its key and the gateway, and by the usage."""
    names = [team_account(team), GATEWAY]
    (own, _), (common, _) = (await store.accounts.load(names)).accounts
    counters = (own, own.keys["k1"], common)
    (row,) = await store.usage.report((), None, None)
    found = {(usage.images, usage.cost) for each in counters for usage in (each.day, each.month)}
    return found | {(row.images_bought, row.cost)}


async def test_open_and_unknown_purchases_are_listed(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1", request="q1")
    await held(ledger, "r2", "blue")
    await unknown(ledger, "r3", "r4")
    await held(ledger, "r5", request="")
    await held(ledger, "r6")
    await ledger.finish(settle("r6", images=2))
    await refund(store, "r3")
    everything = ["r5 open", "r4 unknown", "r3 refunded", "r2 open", "r1 unknown"]
    assert await listed(store) == everything
    assert await listed(store, "open") == ["r5 open", "r2 open"]
    assert await listed(store, "unknown") == ["r4 unknown", "r1 unknown"]
    assert await listed(store, "refunded") == ["r3 refunded"]
    assert await listed(store, team="blue") == ["r2 open"]
    assert await listed(store, id="q1") == ["r1 unknown"]
    fourth = await purchases.find_purchase(parts(store), "r4")
    assert await listed(store, since=fourth.at) == ["r5 open", "r4 unknown"]
    pages = list[str]()
    before = None
    while found := await purchases.list_purchases(parts(store), EVERYTHING, None, 2, before):
        pages += [f"{each.id} {each.state}" for each in found]
        before = found[-1].place
    assert pages == everything
    with pytest.raises(UnknownName, match="There is no team green"):
        await listed(store, team="green")


async def test_a_purchase_is_found_by_its_id_or_its_requests(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1", request="q1")
    await held(ledger, "r2", "blue", request="q2")
    await held(ledger, "r3", request="twice")
    await unknown(ledger, "r4", request="twice")
    for id, name in (("r1", "r1"), ("q1", "r1"), ("r2", "r2"), ("q2", "r2"), ("r4", "r4")):
        found = await purchases.find_purchase(parts(store), id)
        assert (found.id, found.images, found.cost, found.key) == (name, 2, 80_000, "k1")
    with pytest.raises(OperationError, match=r"Name one by its own: r4, r3\."):
        await purchases.find_purchase(parts(store), "twice")


async def test_a_refund_takes_the_charge_back_everywhere(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1", "r2", request="q1")
    assert await charged(store) == {(4, 160_000)}
    done = await refund(store, "r1")
    assert await charged(store) == {(2, 80_000)}
    assert done == await purchases.find_purchase(parts(store), "r1")
    assert done.refunded is not None
    assert (done.state, done.refunded.who, done.refunded.why) == ("refunded", OPS.who, "not billed")
    (line,) = await store.audit.entries(None, None)
    assert (line.at, line.who, line.action) == (OPS.now, OPS.who, "purchase.refund")
    assert (line.team, line.key) == ("red", "sk-gw-k1")
    assert line.before == {"state": "unknown", "cost_usd": "0.08"}
    assert line.after == {
        "purchase": "r1", "state": "refunded", "cost_usd": "0", "why": "not billed"
    }  # fmt: skip


async def test_only_unknown_charges_are_refunded(store: Store, ledger: Ledger) -> None:
    await held(ledger, "open")
    for id in ("bought", "failed"):
        await held(ledger, id)
    await ledger.finish(settle("bought", images=2))
    await ledger.finish(release("failed"))
    await unknown(ledger, "refunded")
    await refund(store, "refunded")
    again = f"already refunded by {OPS.who} at {utc(OPS.now)}"
    for id, why in (
        ("open", "is open"),
        ("bought", "was bought"),
        ("failed", "failed, and nothing was charged"),
        ("refunded", again),
        ("nobody", "No open or unknown purchase has this id"),
    ):
        with pytest.raises(OperationError, match=re.escape(why)):
            await refund(store, id, Actor("another", OPS.now))
    assert await charged(store) == {(2, 80_000)}


async def test_of_refunds_at_once_on_many_gateways_one_wins(
    make_store: MakeStore, store: Store, ledger: Ledger
) -> None:
    await unknown(ledger, "r1", "r2")
    async with make_store() as other:
        tries = [
            refund([store, other][number % 2], "r1", Actor(f"person {number}", OPS.now))
            for number in range(8)
        ]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
    (done,) = (each for each in outcomes if isinstance(each, Purchase))
    refused = [each for each in outcomes if isinstance(each, OperationError)]
    assert done.refunded is not None
    assert {str(each) for each in refused} == {
        f"This purchase was already refunded by {done.refunded.who} at {utc(OPS.now)}."
    }
    assert len(refused) == 7
    assert await charged(store) == {(2, 80_000)}
    assert len(await store.audit.entries(None, None)) == 1


async def test_refunds_are_exact_while_the_team_buys(store: Store, ledger: Ledger) -> None:
    async def buy(name: str) -> None:
        for number in range(15):
            await held(ledger, f"{name}-{number}")
            await ledger.finish(settle(f"{name}-{number}", images=2))

    ids = [f"r{number}" for number in range(10)]
    await unknown(ledger, *ids)
    buying = [asyncio.create_task(buy(name)) for name in "abc"]
    for id in ids:
        await refund(store, id)
    await asyncio.gather(*buying)
    assert await charged(store) == {(90, 3_600_000)}


async def test_a_lost_reply_refunds_once(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1", "r2")
    faulty = FaultyStore(store)
    faulty.losing = 1
    done = await refund(faulty, "r1")
    assert done.refunded is not None
    assert done.refunded.who == OPS.who
    assert faulty.asked["swap"] == 2, "a swap that was acknowledged"
    assert await charged(store) == {(2, 80_000)}
    assert len(await store.audit.entries(None, None)) == 1


async def test_a_swap_that_wakes_up_late_refunds_nothing_more(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1", "r2")
    faulty = FaultyStore(store)
    faulty.freezing = 1
    await refund(faulty, "r1")
    assert await faulty.thaw() == [False]
    assert await charged(store) == {(2, 80_000)}


async def test_an_outage_is_reported(store: Store, ledger: Ledger) -> None:
    await unknown(ledger, "r1")
    faulty = FaultyStore(store)
    faulty.leave("swap")
    with pytest.raises(StoreUnavailable):
        await purchases.refund_purchase(parts(faulty), "r1", "not billed", OPS, patience=0.05)
    assert await charged(store) == {(2, 80_000)}


async def test_an_outcome_that_meets_a_refund_is_charged(store: Store, ledger: Ledger) -> None:
    late = [await held(ledger, f"r{number}", lease=0.001) for number in range(6)]
    await asyncio.sleep(0.01)
    other = Ledger(store.accounts, spread=random.random)
    await other.start()  # it sweeps, as if the first process were dead
    await until(lambda: not other.unwritten)
    await other.close()
    assert await charged(store) == {(12, 480_000)}
    await refund(store, "r0")
    works = [
        work
        for step in late[1:]
        for work in (refund(store, step.id), ledger.finish(settle(step.id, images=1)))
    ]
    outcomes = await asyncio.gather(
        ledger.finish(settle("r0", images=1)), *works, return_exceptions=True
    )
    refused = [str(each) for each in outcomes if isinstance(each, Exception)]
    assert {*refused} <= {"This purchase was bought: its images were delivered and charged."}
    assert await charged(store) == {(6, 240_000)}
    assert await listed(store) == []
