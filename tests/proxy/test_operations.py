"""Clients that leave at an awkward moment: the next equal request takes their purchase over."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.config.store_url import parse_store_url
from gateway.core.errors import Draining, StoreUnavailable
from gateway.core.model import Bought
from gateway.core.upstream_errors import UpstreamCut
from gateway.proxy.leases import Lease, encode_message
from gateway.proxy.operations import OpenOperations, Ticket
from gateway.quota.ledger import Ledger
from gateway.quota.operations import Found, Operation
from gateway.quota.steps import Held, Leave, Settle, Taken
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


async def test_a_client_that_left_before_its_purchase_was_reserved_leaves_an_operation(
    tmp_path: Path,
) -> None:
    async with (
        SqliteStore(tmp_path / "gateway.db") as store,
        Ledger(store.accounts, spread=random.random) as ledger,
    ):
        operations = OpenOperations(ledger, None, "here", time.time)
        buying, ticket = reserve(wish=wish()), Ticket(RequestRecord(id="r1", started=0.0))
        ticket.record.left = True
        operations.ask(ticket, buying)
        held = await ledger.reserve(buying)
        assert isinstance(held, Held)
        operations.begin(ticket, buying, held.at)
        await until(lambda: ledger.unwritten == 0)
        assert isinstance(await ledger.reserve(reserve("second", wish=wish())), Taken)


@dataclass
class Followed:
    """A purchase of gateway "there", whose client left. The request of a ticket has claimed it."""

    faults: FaultyStore
    ledger: Ledger
    here: OpenOperations
    ticket: Ticket
    operation: Operation
    outcome: Settle
    """The purchase ends in an unclear way."""


@pytest.fixture
async def followed(tmp_path: Path) -> AsyncIterator[Followed]:
    leases = RedisLeases(parse_store_url("redis://127.0.0.1:1"))  # nothing is handed over
    async with SqliteStore(tmp_path / "gateway.db") as store:
        faults = FaultyStore(store)
        async with Ledger(faults.accounts, spread=random.random) as ledger:
            names = ("there", "here")
            there, here = (OpenOperations(ledger, leases, name, time.time) for name in names)
            buying = reserve("first", wish=wish(gateway="there"))
            held = await ledger.reserve(buying)
            assert isinstance(held, Held)
            ticket = Ticket(RequestRecord(id="r1", started=0.0))
            there.ask(ticket, buying)
            there.begin(ticket, buying, held.at)
            there.left(ticket)
            failure = encode_message(UpstreamCut())
            outcome = buying.settle(held.at, 1, 40_000, unknown=True, failure=failure)
            claiming, ticket = reserve("second", wish=wish()), Ticket(ticket.record)
            here.ask(ticket, claiming)
            taken = await ledger.reserve(claiming)
            assert isinstance(taken, Taken)
            assert isinstance(taken.found, Found)
            yield Followed(faults, ledger, here, ticket, taken.found.operation, outcome)
    await leases.close()


async def test_a_request_that_cannot_follow_the_operation_it_took_over_gives_it_back(
    followed: Followed,
) -> None:
    followed.faults.leave("load")
    with pytest.raises(StoreUnavailable):
        await followed.here.take_over(followed.ticket, followed.operation)
    followed.faults.come_back()
    await until(lambda: followed.ledger.unwritten == 0)
    assert isinstance(await followed.ledger.reserve(reserve("third", wish=wish())), Taken)


async def test_a_request_that_left_gives_back_what_it_took_over(followed: Followed) -> None:
    followed.ticket.record.left = True
    following = asyncio.create_task(followed.here.take_over(followed.ticket, followed.operation))
    await asyncio.sleep(0)
    assert isinstance(await followed.ledger.reserve(reserve("third", wish=wish())), Taken)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following


async def test_a_request_that_has_lost_what_it_took_over_buys_nothing(followed: Followed) -> None:
    following = asyncio.create_task(followed.here.take_over(followed.ticket, followed.operation))
    await asyncio.sleep(0)
    followed.here.left(followed.ticket)
    with pytest.raises(Draining):
        await following


class Handing:
    """Counts the answers that are handed over."""

    def __init__(self) -> None:
        self.given = 0

    async def hand_over(self, lease: Lease, bought: Bought, *, asked: bool) -> None:
        self.given += 1


@dataclass
class Left:
    """A running purchase of gateway "there", whose client left."""

    ledger: Ledger
    there: OpenOperations
    leases: Handing
    record: str
    end: Callable[[], Awaitable[None]]
    """Settles it, with an answer."""


@pytest.fixture
async def left(tmp_path: Path) -> AsyncIterator[Left]:
    leases = Handing()
    async with (
        SqliteStore(tmp_path / "gateway.db") as store,
        Ledger(store.accounts, spread=random.random) as ledger,
        OpenOperations(ledger, leases, "there", time.time) as there,  # type: ignore[arg-type]
    ):
        buying = reserve("first", wish=wish(gateway="there"))
        held = await ledger.reserve(buying)
        assert isinstance(held, Held)
        ticket = Ticket(RequestRecord(id="r1", started=0.0))
        there.ask(ticket, buying)
        there.begin(ticket, buying, held.at)
        there.left(ticket)

        async def end() -> None:
            noted = await ledger.finish(buying.settle(held.at, 1, 40_000))
            bought = Bought(body=ANSWER, images=1, cost=40_000, at=time.time())
            there.bought(ticket, bought, noted, 600.0, is_found=False)

        yield Left(ledger, there, leases, buying.record, end)


async def test_an_answer_is_handed_over_again_to_whoever_takes_it_over_next(left: Left) -> None:
    await left.end()
    for number, name in enumerate(("second", "third"), 1):
        assert isinstance(await left.ledger.reserve(reserve(name, wish=wish())), Taken)
        await until(lambda number=number: left.leases.given == number, 5)  # type: ignore[misc]
        await left.ledger.finish(Leave(record=left.record, id=name))


async def test_an_answer_stays_for_a_retry_that_took_it_over_from_another(left: Left) -> None:
    """The first one got it all the same, but nobody knows whether its client was still there."""
    retry, ticket = wish(is_retry=True), Ticket(RequestRecord(id="r2", started=0.0))
    claiming = reserve("second", wish=replace(retry, gateway="there"))
    left.there.ask(ticket, claiming)
    taken = await left.ledger.reserve(claiming)
    assert isinstance(taken, Taken)
    assert isinstance(taken.found, Found)
    got = asyncio.create_task(left.there.take_over(ticket, taken.found.operation))
    await asyncio.sleep(0)
    assert isinstance(await left.ledger.reserve(reserve("third", wish=retry)), Taken)
    await left.end()
    assert await got is not None
    left.there.sent(ticket, whole=True)
    await until(lambda: left.leases.given == 1, 5)


async def test_a_request_that_took_over_another_gateways_purchase_fails_like_it(
    followed: Followed,
) -> None:
    await followed.ledger.finish(followed.outcome)
    with pytest.raises(UpstreamCut):
        await followed.here.take_over(followed.ticket, followed.operation)
