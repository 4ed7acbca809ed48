"""Leases in a real Redis: one holder at a time, and events for all listeners."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Bought
from gateway.proxy.leases import Lease, LeaseEvent
from gateway.stores.redis.leases import LEFT_BYTES, QUIET_SECONDS, RedisLeases
from tests.support.redis import RedisServer
from tests.support.steps import until

MINE, OTHERS = Lease("apple", "mine"), Lease("apple", "others")
PEAR = Lease("pear", "mine")
BOUGHT = Bought(body=b'{"data":[{"b64_json":"aGk="}]}', images=1, cost=40_000, at=1_000.5)


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


@pytest.fixture
async def leases(server: RedisServer) -> AsyncIterator[RedisLeases]:
    async with opened(server.url) as opened_leases:
        yield opened_leases


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisLeases]:
    leases = RedisLeases(parse_store_url(url))
    try:
        yield leases
    finally:
        await leases.close()


class Listener:
    """A subscription, and its events so far."""

    def __init__(self, leases: RedisLeases) -> None:
        self.events: asyncio.Queue[LeaseEvent | None] = asyncio.Queue()
        self.task = asyncio.create_task(self._listen(leases))

    async def next(self) -> LeaseEvent | None:
        """Return the next event, or raise the error that ended the subscription."""
        event = asyncio.create_task(self.events.get())
        try:
            async with asyncio.timeout(10):
                await asyncio.wait([event, self.task], return_when=asyncio.FIRST_COMPLETED)
            return event.result() if event.done() else self.task.result()
        finally:
            event.cancel()

    async def _listen(self, leases: RedisLeases) -> None:
        async for each in leases.listen():
            self.events.put_nowait(each)


@asynccontextmanager
async def listening(leases: RedisLeases) -> AsyncIterator[Listener]:
    listener = Listener(leases)
    try:
        assert await listener.next() is None
        yield listener
    finally:
        listener.task.cancel()
        await asyncio.gather(listener.task, return_exceptions=True)


async def test_one_gateway_takes_it_and_the_others_get_its_holder(leases: RedisLeases) -> None:
    rivals = [Lease("apple", str(number)) for number in range(50)]
    taken = await asyncio.gather(*(leases.take(rival, 5) for rival in rivals))
    assert taken.count(None) == 1
    holder = rivals[taken.index(None)]
    assert {rival.holder for rival in taken if rival} == {holder.holder}
    assert all(0 < rival.seconds <= 5 for rival in taken if rival)
    assert await leases.take(Lease("pear", "others"), 5) is None
    assert await leases.take(holder, 5) is None  # again, after a lost reply


async def test_it_expires_unless_it_is_renewed(leases: RedisLeases) -> None:
    assert await leases.take(MINE, 0.05) is None
    rival = await leases.take(OTHERS, 5)
    while rival is not None:
        await asyncio.sleep(rival.seconds)
        rival = await leases.take(OTHERS, 5)
    assert await leases.renew([OTHERS], 30) == []
    rival = await leases.take(MINE, 5)
    assert rival is not None
    assert rival.seconds > 5


async def test_a_renewal_takes_expired_leases_again_and_returns_lost_ones(
    leases: RedisLeases,
) -> None:
    plum = Lease("plum", "mine")
    assert await leases.take(OTHERS, 5) is None
    assert await leases.take(plum, 5) is None
    assert await leases.renew([PEAR, MINE, plum], 5) == [MINE]
    assert await leases.take(Lease("pear", "others"), 5) is not None
    assert await leases.take(MINE, 5) is not None


async def test_the_end_frees_leases_and_notifies_all(leases: RedisLeases) -> None:
    endings = [(Lease(str(number), "mine"), b"\x00%d" % number) for number in range(200)]
    await asyncio.gather(*(leases.take(lease, 30) for lease, _ in endings))
    async with listening(leases) as first, listening(leases) as second:
        await leases.end(endings)
        for lease, message in endings:
            assert await first.next() == await second.next() == LeaseEvent(lease, message)
    successor = Lease("199", "others")
    assert await leases.take(successor, 5) is None
    await leases.end(endings[-1:])  # too late: it does not hit the successor
    assert await leases.renew([successor], 5) == []
    assert await leases.take(endings[-1][0], 5) is not None


async def test_an_answer_is_left_for_some_seconds_where_somebody_waits(
    leases: RedisLeases, client: Redis
) -> None:
    await leases.take(MINE, 5)
    assert await leases.hand_over(MINE, BOUGHT) is False
    await leases.take(OTHERS, 5)
    large = Bought(body=bytes(LEFT_BYTES + 1), images=1, cost=1, at=0)
    assert await leases.hand_over(MINE, large) is False
    assert await leases.handed_over(MINE) is None
    assert await leases.hand_over(MINE, BOUGHT) is True
    assert await leases.handed_over(MINE) == BOUGHT
    assert await leases.handed_over(OTHERS) is None
    keys = {key async for key in client.scan_iter()}
    assert keys == {b"{gateway}:lease:apple", b"{gateway}:left:mine"}
    for key in keys:
        assert 0 < await client.pttl(key) <= 10_000


async def test_without_memory_leases_still_work_and_no_answer_is_left(
    leases: RedisLeases, client: Redis
) -> None:
    await leases.take(MINE, 5)
    await leases.take(OTHERS, 5)
    async with listening(leases) as listener:
        await client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await leases.hand_over(MINE, BOUGHT)
        await leases.end([(MINE, b"again")])
        assert await listener.next() == LeaseEvent(MINE, b"again")


async def test_an_outage_is_reported_within_a_second_or_so(
    leases: RedisLeases, server: RedisServer
) -> None:
    await leases.take(MINE, 5)
    server.freeze()
    async with asyncio.timeout(5):
        asked = [
            leases.take(OTHERS, 5),
            leases.renew([MINE], 5),
            leases.end([(MINE, b"")]),
            leases.hand_over(MINE, BOUGHT),
            leases.handed_over(MINE),
        ]
        ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(end) for end in ends] == [StoreUnavailable] * len(asked)
    server.thaw()


async def cut(server: RedisServer) -> None:
    async with server.client() as client:
        await client.client_kill_filter(_type="pubsub")


async def freeze(server: RedisServer) -> None:
    server.freeze()


@pytest.mark.parametrize("lose", [cut, freeze])
async def test_a_lost_subscription_is_noticed(
    leases: RedisLeases, server: RedisServer, lose: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with listening(leases) as listener:
        await lose(server)
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(listener.task, 10)
    server.thaw()
    async with listening(leases) as listener:
        await leases.end([(MINE, b"heard")])
        assert await listener.next() == LeaseEvent(MINE, b"heard")


async def test_a_quiet_subscription_stays(leases: RedisLeases) -> None:
    async with listening(leases) as listener:
        await asyncio.sleep(2 * QUIET_SECONDS + 0.5)  # longer than until a ping and its timeout
        await leases.end([(MINE, b"heard")])
        assert await listener.next() == LeaseEvent(MINE, b"heard")


async def test_listeners_that_end_leave_no_connection_behind(
    leases: RedisLeases, client: Redis
) -> None:
    """Every stop of a gateway cancels listening, at any point."""

    async def connected() -> int:
        return int((await client.info("clients"))["connected_clients"])

    before = await connected()
    for number in range(200):
        listener = Listener(leases)
        await asyncio.sleep(number * 0.000_05)
        listener.task.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([listener.task])

    async def are_gone() -> bool:
        return await connected() == before

    await until(are_gone)
    await leases.close()
    with pytest.raises(StoreUnavailable):
        await leases.take(OTHERS, 5)
