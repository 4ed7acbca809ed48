"""Clients that leave at an awkward moment: the next equal request takes their purchase over."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.proxy.operations import OpenOperations, Ticket
from gateway.quota.ledger import Ledger
from gateway.quota.operations import Found
from gateway.quota.steps import Held, Taken
from gateway.stores.redis.leases import RedisLeases
from gateway.stores.sqlite import SqliteStore
from gateway.telemetry.request_record import RequestRecord
from gateway.upstream.port import Reply
from tests.support.faulty_store import FaultyStore
from tests.support.proxy_bench import ANSWER, Bench, running_bench
from tests.support.quota_steps import reserve, wish
from tests.support.steps import until

NEW = ("no-store",)
LAG = 0.3
"""How long the store's replies take in seconds."""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running_bench(tmp_path) as bench:
        yield bench


async def leave_and_ask_again(bench: Bench, seconds: float) -> RequestRecord:
    """Leave after so many seconds, and send the same request again at once."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.generate(control=NEW), seconds)
    response, record = await bench.generate(control=NEW)
    assert response.body == ANSWER
    return record


async def test_a_client_leaves_while_its_purchase_is_reserved(bench: Bench) -> None:
    async def answer(body: bytes) -> Reply:
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = answer
    bench.faults.lag = LAG
    record = await leave_and_ask_again(bench, LAG * 1.5)  # it is loaded, and not written yet
    assert record.outcome == "collapsed"
    bench.faults.lag = 0.0
    assert (await bench.account()).day.images == 1


async def test_a_client_leaves_while_its_purchase_is_settled(bench: Bench) -> None:
    async def answer(body: bytes) -> Reply:
        bench.faults.lag = LAG
        return Reply(200, {}, ANSWER)

    bench.upstream.answer = answer
    record = await leave_and_ask_again(bench, LAG * 1.5)
    assert record.outcome == "collapsed"
    bench.faults.lag = 0.0
    assert (await bench.account()).day.images == 1


async def test_a_request_that_cannot_follow_the_operation_it_took_over_gives_it_back(
    tmp_path: Path,
) -> None:
    leases = RedisLeases(parse_store_url("redis://127.0.0.1:1"))  # nothing is handed over
    async with SqliteStore(tmp_path / "gateway.db") as store:
        faults = FaultyStore(store)
        async with Ledger(faults.accounts, spread=random.random) as ledger:
            there, here = (OpenOperations(ledger, leases, name, time.time) for name in ("t", "h"))
            buying = reserve("first", wish=wish(gateway="t"))
            held = await ledger.reserve(buying)
            assert isinstance(held, Held)
            ticket = Ticket(RequestRecord(id="r1", started=0.0))
            there.ask(ticket, buying)
            there.begin(ticket, buying, held.at)
            there.left(ticket)
            claiming, ticket = reserve("second", wish=wish(gateway="h")), Ticket(ticket.record)
            here.ask(ticket, claiming)
            taken = await ledger.reserve(claiming)
            assert isinstance(taken, Taken)
            assert isinstance(taken.found, Found)
            faults.leave("load")
            with pytest.raises(StoreUnavailable):
                await here.take_over(ticket, taken.found.operation)
            faults.come_back()
            await until(lambda: ledger.unwritten == 0)
            assert isinstance(await ledger.reserve(reserve("third", wish=wish())), Taken)
    await leases.close()
