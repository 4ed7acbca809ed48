"""The store returns to an older state during purchases: later settlements are recorded once."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.quota.account import team_account
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held, Settle
from gateway.quota.store import LedgerObserver
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import SandboxSettings
from tests.support.faulty_store import FaultyStore
from tests.support.quota_steps import reserve
from tests.support.redis import running_redis
from tests.support.rig import FLAT, UPSTREAM_KEY, running_rig
from tests.support.steps import metric, until

WARNING = "settled a purchase that the store had lost"
PEPPER = "a pepper of tests, long enough"
PRICE = 40_000


class Saved:
    """A copy of a database, which can be written back while the database is in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        self.save()

    def save(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as database:
            database.backup(self._copy)

    def put_back(self) -> None:
        with closing(sqlite3.connect(self._path, timeout=10)) as database:
            self._copy.backup(database)

    def close(self) -> None:
        self._copy.close()


class Bench(LedgerObserver):
    """A ledger over a database that can be lost. `lost` counts the losses that it reports."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gateway.db"
        self.sqlite = SqliteStore(self.path)
        self.store = FaultyStore(self.sqlite)
        self.lost = 0
        self.ledger = Ledger(self.store.accounts, spread=random.random, observer=self)

    def lost_purchase_settled(self) -> None:
        self.lost += 1

    async def buy(self, id: str, images: int = 1) -> Settle:
        """Have a purchase admitted; returns its settlement."""
        step = reserve(id, images=images)
        held = await self.ledger.reserve(step)
        assert isinstance(held, Held)
        return step.settle(held.at, images, images * PRICE)

    async def recorded(self) -> tuple[int, int, int]:
        """The money in the budget and in the history, and the number of requests in the history."""
        ((account, _),) = (await self.sqlite.accounts.load([team_account("red")])).accounts
        (row,) = await self.sqlite.usage.report([], None, None)
        return account.day.cost, row.cost, row.requests


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    async with bench.sqlite:
        await bench.ledger.start()
        yield bench
        await bench.ledger.close(5)


async def test_a_purchase_that_a_restored_database_lost_is_charged_once(bench: Bench) -> None:
    await bench.ledger.finish(await bench.buy("old"))
    with closing(Saved(bench.path)) as saved:
        purchases = [await bench.buy(f"lost-{number}", number) for number in (1, 2, 3)]
        saved.put_back()
    with capture_logs() as lines:
        for purchase in purchases:
            await bench.ledger.finish(purchase)
            await bench.ledger.finish(purchase)
    assert await bench.recorded() == (7 * PRICE, 7 * PRICE, 4)
    ((account, _),) = (await bench.sqlite.accounts.load([team_account("red")])).accounts
    assert account.holds == {}
    warnings = [line for line in lines if line["event"] == WARNING]
    assert [line["id"] for line in warnings] == ["lost-1", "lost-2", "lost-3"]
    assert bench.lost == 3


async def test_a_lost_reply_is_not_taken_for_a_loss(bench: Bench) -> None:
    purchase = await bench.buy("bought")
    bench.store.losing = 1
    await bench.ledger.finish(purchase)
    assert bench.store.asked["written"] == 1
    assert await bench.recorded() == (PRICE, PRICE, 1)
    assert bench.lost == 0


async def test_nothing_is_charged_while_a_loss_is_uncertain(bench: Bench) -> None:
    with closing(Saved(bench.path)) as saved:
        purchase = await bench.buy("lost")
        saved.put_back()
    bench.store.leave("written")
    settling = asyncio.create_task(bench.ledger.finish(purchase))
    await until(lambda: bench.store.asked["written"] > 2)
    assert await bench.sqlite.usage.report([], None, None) == []
    bench.store.come_back()
    await settling
    await until(lambda: not bench.ledger.unwritten)
    assert await bench.recorded() == (PRICE, PRICE, 1)


async def test_ordinary_settlements_ask_the_store_for_no_losses(bench: Bench) -> None:
    for number in range(5):
        await bench.ledger.finish(await bench.buy(str(number)))
    assert bench.store.asked["written"] == 0


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, 5))]
)
async def test_two_gateways_with_restores_at_random_moments(tmp_path: Path, seed: int) -> None:
    """Everything settled after the last restore is recorded, alike in budget and history.

    Earlier purchases may be held again; a sweep charges those later.
    """
    chance = random.Random(seed)
    benches = [Bench(tmp_path), Bench(tmp_path)]
    settled: set[str] = set()

    async def buy(number: int) -> None:
        bench, id = benches[number % 2], f"r{number}"
        await asyncio.sleep(chance.random())
        purchase = await bench.buy(id)
        await asyncio.sleep(chance.random())
        bench.store.losing = chance.choice([0, 0, 1])
        round = returns
        await bench.ledger.finish(purchase)
        await until(lambda: not bench.ledger.unwritten)
        if round == returns:
            settled.add(id)

    async with AsyncExitStack() as running:
        for bench in benches:
            await running.enter_async_context(bench.sqlite)
            await bench.ledger.start()
            running.push_async_callback(bench.ledger.close, 5)
        saved = running.enter_context(closing(Saved(benches[0].path)))
        returns = 0
        buying = asyncio.gather(*map(buy, range(60)))
        while not buying.done():
            await asyncio.sleep(chance.random() * 0.2)
            if chance.random() < 0.5:
                await asyncio.to_thread(saved.save)
            elif returns < 10:
                returns += 1
                await asyncio.to_thread(saved.put_back)
                returns += 1
                settled.clear()
        await buying
        kept = await benches[0].sqlite.accounts.written(dict.fromkeys(settled, 0.0))
        assert kept == settled
        paid, history, _ = await benches[1].recorded()
        assert paid == history >= len(settled) * PRICE


async def test_a_redis_restarted_from_an_older_dump(tmp_path: Path) -> None:
    """A call sent before the dump and answered after the restart is in budget and history."""
    calls = 12
    sandbox = SandboxSettings(api_key=UPSTREAM_KEY, picture="dot", latency=3.0)
    async with running_redis(tmp_path / "redis") as server:
        place = {"STORE_URL": server.url, "KEYS_PEPPER": PEPPER}
        async with running_rig(tmp_path, FLAT, sandbox, **place) as rig:
            key = await rig.key()
            async with server.client() as client:
                await client.save()
            answers = [asyncio.create_task(rig.generate(key, None, n=2)) for _ in range(calls)]
            await until(lambda: rig.sandbox.counts.asked == calls, 30)
            await server.kill()
            await server.start()
            assert {(await answer).status for answer in answers} == {200}
            usage = await rig.usage()
            assert (usage.requests, usage.images_bought) == (calls, 2 * calls)
            assert usage.cost == (await rig.account()).day.cost == 2 * calls * PRICE
            assert await metric(rig, "gateway_lost_purchases_total") == calls
            assert await metric(rig, "gateway_store_errors_total", operation="went_back") == 1
