"""A refusal consumes nothing: no quota, no money, no call.

Some tests lock the store with another connection, as another process would.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Denied, Held, Settle
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import UpstreamFault
from tests.support.quota_steps import NOON, reserve
from tests.support.rig import FLAT, PRICE, Got, Rig, assert_spent, running_rig
from tests.support.steps import AWAY, TOO_MUCH_AT_ONCE, USED_UP, drawing, tally, until, until_asked

REFUSED_SECONDS = 2.5
"""After which a request is refused at the latest if the store does not answer."""


@asynccontextmanager
async def slow_rig(
    folder: Path, latency: float, toml: str = FLAT, **environ: str
) -> AsyncIterator[Rig]:
    async with running_rig(folder, toml, drawing(latency=latency), **environ) as rig:
        yield rig


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """While another connection holds the write lock of the database."""
    with closing(sqlite3.connect(folder / "gateway.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def buying(rig: Rig, key: str, number: int, **fields: Any) -> list[asyncio.Task[Got]]:
    """So many distinct requests, under way."""
    return [asyncio.create_task(rig.generate(key, None, **fields)) for _ in range(number)]


# -- limits -------------------------------------------------------------------------------------


async def test_refused_for_concurrency_leaves_the_minute_alone(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.3) as rig:
        key = await rig.key(limits=Limits(concurrent_requests=1, requests_per_minute=2))
        (first,) = buying(rig, key, 1)
        await until_asked(rig, 1)
        for _ in range(5):
            got = await rig.generate(key, None)
            assert got.error == TOO_MUCH_AT_ONCE
            assert "concurrent_requests" in got.json["error"]["message"]
        assert (await first).status == 200
        assert (await rig.generate(key, None)).status == 200
        got = await rig.generate(key, None)
        assert got.error == TOO_MUCH_AT_ONCE
        assert "requests_per_minute" in got.json["error"]["message"]
        assert 40 < int(got.headers["Retry-After"]) <= 60
        await rig.assert_books(2)


async def test_one_at_once_and_one_a_minute(tmp_path: Path) -> None:
    """A runs, B is refused, C is admitted once A has ended and its minute is over."""
    now = NOON
    limits = Limits(concurrent_requests=1, requests_per_minute=1)
    async with SqliteStore(
        tmp_path / "gateway.db", wall=lambda: now, monotonic=lambda: now
    ) as store:
        ledger = Ledger(store.accounts, spread=lambda: 0.5)
        await ledger.start()

        async def ask(id: str) -> Held | Denied:
            return await ledger.reserve(reserve(id, limits=limits))

        assert isinstance(await ask("A"), Held)
        assert isinstance(await ask("B"), Denied)
        now = NOON + 61  # the minute is over, and A still runs
        assert isinstance(refused := await ask("B"), Denied)
        assert refused.refusal.limit == "concurrent_requests"
        await ledger.finish(Settle(id="A", team="red", images=1, cost=PRICE))
        assert isinstance(await ask("C"), Held)
        await ledger.finish(Settle(id="C", team="red", images=1, cost=PRICE))
        assert isinstance(refused := await ask("D"), Denied)
        assert refused.refusal.limit == "requests_per_minute"
        now = NOON + 61 + 60
        assert isinstance(await ask("D"), Denied)
        now = NOON + 61 + 61
        assert isinstance(await ask("D"), Held)
        assert await ledger.close(5)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(images_per_day=3), "Team team's images_per_day limit of 3 is smaller"),
        (Limits(images_per_month=3), "Team team's images_per_month limit of 3 is smaller"),
        (Limits(cost_per_day=150_000), "Team team's cost_per_day_usd limit of 0.15 is smaller"),
        (Limits(cost_per_month=150_000), "Team team's cost_per_month_usd limit of 0.15 is"),
        (Limits(requests_per_minute=0), "Team team's requests_per_minute limit of 0 is smaller"),
        (Limits(concurrent_requests=0), "Team team's concurrent_requests limit of 0 is smaller"),
    ],
)
async def test_a_request_above_a_whole_limit_is_not_to_be_retried(
    tmp_path: Path, limits: Limits, named: str
) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        got = await rig.generate(await rig.key(limits=limits), n=4)
        assert got.error == USED_UP
        assert got.json["error"]["message"].startswith(named)
        assert got.headers["x-should-retry"] == "false"
        assert "x-gateway-cost-usd" not in got.headers
        await rig.assert_books(0)
        assert rig.sandbox.counts.asked == 0


async def test_one_refusing_limit_leaves_all_the_others_alone(tmp_path: Path) -> None:
    toml = f"{FLAT}\n[limits]\nimages_per_day = 1_000\n"
    limits = Limits(
        images_per_day=5,
        images_per_month=100,
        cost_per_day=100 * PRICE,
        cost_per_month=100 * PRICE,
        requests_per_minute=10,
        concurrent_requests=3,
    )
    async with slow_rig(tmp_path, 0, toml) as rig:
        key = await rig.key(limits=limits)
        assert (await rig.generate(key, None, n=4)).status == 200
        got = await asyncio.gather(*buying(rig, key, 50, n=2))
        assert tally(got) == {USED_UP: 50}
        assert "resets at" in got[0].json["error"]["message"]
        assert (await rig.generate(key, None, n=1)).status == 200
        await rig.assert_books(5)
        assert sum(count for _, count in (await rig.account()).minute) == 2
        assert_spent(await rig.gateway_account(), 5, 5 * PRICE)


async def test_a_failed_purchase_gives_its_slot_and_money_back(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key(limits=Limits(images_per_day=1, concurrent_requests=1))
        rig.sandbox.fault = UpstreamFault(kind="status", status=500)
        for _ in range(10):
            assert (await rig.generate(key)).status == 502
        rig.sandbox.fault = None
        assert (await rig.generate(key)).status == 200
        await rig.assert_books(1)


async def test_too_many_in_flight_costs_nothing(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.3, SERVER_MAX_IN_FLIGHT="10") as rig:
        key = await rig.key()
        got = await asyncio.gather(*buying(rig, key, 100))
        assert tally(got) == {200: 10, (503, "server_error", "overloaded"): 90}
        await rig.assert_books(10)


async def test_calls_whose_clients_have_left_take_room_too(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 1.5, SERVER_MAX_IN_FLIGHT="10") as rig:
        key = await rig.key()
        for _ in range(5):
            for task in (impatient := buying(rig, key, 10)):
                task.add_done_callback(lambda ended: ended.cancelled())
            await asyncio.sleep(0.05)
            for task in impatient:
                task.cancel()
        assert len(rig.gateway.proxy.flights) == rig.sandbox.counts.asked == 10
        assert (await rig.generate(key, None)).error == (503, "server_error", "overloaded")
        await until(rig.is_closed)
        await rig.assert_books(10)
        assert (await rig.generate(key, None)).status == 200


async def test_long_client_text_makes_no_record_large(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key()
        asked = buying(rig, key, 20, quality="x" * 100_000)
        assert {got.status for got in await asyncio.gather(*asked)} == {400}
        await rig.assert_books(0)
        rows = await rig.gateway.store.usage.report(("quality",), None, None)
        assert [row.group for row in rows] == [("other",)]


# -- the store is away --------------------------------------------------------------------------


async def test_a_request_is_refused_in_time_while_the_store_is_away(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0) as rig:
        key = await rig.key()
        with locked(tmp_path):

            async def ask(delay: float) -> float:
                await asyncio.sleep(delay)
                started = time.monotonic()
                assert (await rig.generate(key, None)).error == AWAY
                return time.monotonic() - started

            # Also requests that come while others already wait.
            waits = await asyncio.gather(*(ask(number / 20) for number in range(40)))
            assert max(waits) < REFUSED_SECONDS
        await until(rig.is_closed)
        assert rig.sandbox.counts.asked == 0
        await rig.assert_books(0)
        assert (await rig.usage()).requests == 0


async def test_a_short_lock_is_waited_for(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.1) as rig:
        key = await rig.key()
        with locked(tmp_path):
            asked = buying(rig, key, 20)
            await asyncio.sleep(0.7)
            assert rig.sandbox.counts.asked == 0
        assert tally(await asyncio.gather(*asked)) == {200: 20}
        await rig.assert_books(20)


async def test_a_refund_is_made_once_the_lock_is_gone(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 0.3) as rig:
        key = await rig.key()
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=400, times=3))
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=502, times=2))
        asked = buying(rig, key, 6)
        await until_asked(rig, 6)
        with locked(tmp_path):
            got = await asyncio.gather(*asked)
            assert sorted(each.status for each in got) == [200, 400, 400, 400, 502, 502]
        await until(rig.is_closed)
        await rig.assert_books(3)


async def test_locks_that_come_and_go_leave_no_orphan(tmp_path: Path) -> None:
    """Locks longer and shorter than callers wait, while many buy, fail and hang up."""
    async with slow_rig(tmp_path, 0.05) as rig:
        key = await rig.key(limits=Limits(images_per_day=100_000, concurrent_requests=10_000))
        chance = random.Random(7)
        ending = asyncio.Event()

        async def shop() -> None:
            while not ending.is_set():
                if chance.random() < 0.05:
                    rig.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=1))
                with_patience = chance.choice((0.02, 0.3, 10))
                try:
                    async with asyncio.timeout(with_patience):
                        await rig.generate(key, None)
                except TimeoutError:
                    continue

        shoppers = [asyncio.create_task(shop()) for _ in range(30)]
        for seconds in (0.2, 1.0, 2.2, 0.5):
            await asyncio.sleep(0.3)
            with locked(tmp_path):
                await asyncio.sleep(seconds)
        ending.set()
        await asyncio.gather(*shoppers)
        await until(lambda: not len(rig.gateway.proxy.flights))
        await until(rig.is_closed)
        drawn = rig.sandbox.counts.images_drawn
        assert drawn > 50
        await rig.assert_books(drawn)


async def test_a_long_outage_does_not_pile_up_work(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        ledger = Ledger(store.accounts, spread=lambda: 0.5)
        await ledger.start()
        with locked(tmp_path):
            for turn in range(2):
                asked = (ledger.reserve(reserve(f"{turn}-{number}")) for number in range(2_000))
                assert len(await asyncio.gather(*asked, return_exceptions=True)) == 2_000
                assert ledger.unwritten < 1_500
        assert await ledger.close(10)
        assert not (await store.accounts.load(["team:red"])).accounts[0][0].holds


# -- the end ------------------------------------------------------------------------------------


async def test_a_bought_picture_is_delivered_though_the_drain_is_over(tmp_path: Path) -> None:
    """The answer is there and only its settlement waits: the client must not buy it again."""
    async with slow_rig(tmp_path, 0.5, SERVER_DRAIN_SECONDS="0.8") as rig:
        key = await rig.key()
        rig.sandbox.faults.append(UpstreamFault(kind="status", status=502, times=1))
        asked = buying(rig, key, 3)
        await until_asked(rig, 3)
        with locked(tmp_path):
            stopping = asyncio.create_task(rig.gateway.stop())
            got = await asyncio.gather(*asked)
            assert sorted(each.status for each in got) == [200, 200, 502]
        await stopping
    async with running_rig(tmp_path, FLAT) as rig:
        await rig.assert_books(3)


async def test_a_call_cut_off_by_the_end_of_the_drain_is_charged(tmp_path: Path) -> None:
    async with slow_rig(tmp_path, 2, SERVER_DRAIN_SECONDS="0.2") as rig:
        key = await rig.key()
        (asked,) = buying(rig, key, 1)
        await until_asked(rig, 1)
        await rig.gateway.stop()
        assert (await asked).error == (502, "upstream_error", "upstream_cut")
    async with running_rig(tmp_path, FLAT) as rig:
        await rig.assert_books(1)
