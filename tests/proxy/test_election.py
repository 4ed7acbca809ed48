"""Elections over a real Redis: one gateway buys, the others get the result or take over."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Self

import pytest
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.core.errors import GatewayError, InsufficientQuota, StoreUnavailable
from gateway.core.model import Bought
from gateway.core.upstream_errors import UpstreamCut, UpstreamFailed, UpstreamRefused
from gateway.proxy.election import SharedElection
from gateway.stores.redis.leases import RedisLeases
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_record import RequestRecord
from tests.support.redis import RedisServer
from tests.support.steps import until

BOUGHT = Bought(body=b'{"data":[]}', images=1, cost=40_000, at=1.0)
LONG = 30.0
"""A lease that no test waits for."""

LEASE = "{gateway}:lease:apple"
"""The lease's key in Redis."""

Work = Callable[[], Awaitable[Bought]]
Flight = asyncio.Task[Bought]


class Gateway:
    """The part of a gateway that elections need. `cache` is shared."""

    def __init__(self, redis: RedisServer, cache: dict[str, Bought], lease: float = LONG) -> None:
        self.cache = cache
        self.metrics = Metrics()
        self.election = SharedElection(
            RedisLeases(parse_store_url(redis.url)),
            observer=self.metrics,
            new_id=lambda: secrets.token_hex(8),
            cache_is_shared=lambda: False,
            lease_seconds=lease,
        )

    async def fly(self, work: Work, name: str = "apple") -> Bought:
        """A flight of this name, as in `gateway.proxy.pipeline`."""

        async def look() -> Bought | None:
            return self.cache.get(name)

        record = RequestRecord(id="r", started=perf_counter())
        return (await self.election.buy_or_wait(name, record, look, work)).bought

    async def __aenter__(self) -> Self:
        await self.election.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.election.close()

    def flight(self, work: Work) -> Flight:
        return asyncio.create_task(self.fly(work))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0


class Purchase:
    """A purchase that ends when a test lets it. Its answer is cached unless `name` is None."""

    def __init__(
        self, cache: dict[str, Bought], name: str | None = "apple", *, done: bool = False
    ) -> None:
        self.name = name
        self.bought = 0
        self.go_on = asyncio.Event()
        self.failure: BaseException | None = None
        self._cache = cache
        if done:
            self.go_on.set()

    async def __call__(self) -> Bought:
        self.bought += 1
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        if self.name is not None:
            self._cache[self.name] = BOUGHT
        return BOUGHT


class Pair:
    """Two gateways. The first one makes the purchase, and the second one waits for it."""

    def __init__(self, redis: RedisServer, first: Gateway, second: Gateway) -> None:
        self.redis = redis
        self.first = first
        self.second = second
        self.cache = first.cache
        self.purchase = Purchase(self.cache)

    async def start_buying(self) -> Flight:
        """Return the first gateway's flight once it buys."""
        buying = self.first.flight(self.purchase)
        await until(lambda: self.purchase.bought == 1)
        return buying

    async def start_waiting(self, work: Work | None = None) -> Flight:
        """Return the second gateway's flight once it has found that the first one buys."""
        waiting = self.second.flight(work or self.purchase)
        await until(lambda: self.second.count("gateway_flights_total", role="remote") == 1)
        return waiting

    async def start_both(self, work: Work | None = None) -> tuple[Flight, Flight]:
        return await self.start_buying(), await self.start_waiting(work)

    async def assert_shared(self, *flights: Flight) -> None:
        """End the purchase: all flights get its answer, and nobody buys another one."""
        self.purchase.go_on.set()
        async with asyncio.timeout(10):
            assert await asyncio.gather(*flights) == [BOUGHT] * len(flights)
        assert self.purchase.bought == 1

    async def has_lease(self) -> bool:
        async with self.redis.client() as client:
            return bool(await client.exists(LEASE))


@pytest.fixture
def lease() -> float:
    return LONG


@pytest.fixture
async def pair(redis_server: RedisServer, lease: float) -> AsyncIterator[Pair]:
    cache: dict[str, Bought] = {}
    first, second = (Gateway(redis_server, cache, lease) for _ in range(2))
    async with first, second:
        yield Pair(redis_server, first, second)


@pytest.mark.parametrize("name", ["apple", None], ids=["cached", "handed over"])
async def test_one_buys_and_the_other_gets_its_answer(pair: Pair, name: str | None) -> None:
    pair.purchase.name = name
    await pair.assert_shared(*await pair.start_both())


async def test_a_later_flight_finds_the_answer_in_the_cache(pair: Pair) -> None:
    await pair.assert_shared(await pair.start_buying())
    await pair.assert_shared(pair.second.flight(pair.purchase))


@pytest.mark.parametrize(
    "failure",
    [UpstreamCut(), UpstreamFailed(retry=True), UpstreamRefused(status=400, body=b"{}")],
    ids=["cut", "failed", "refused"],
)
async def test_all_who_wait_raise_the_failure_of_a_purchase(
    pair: Pair, failure: GatewayError
) -> None:
    pair.purchase.failure = failure
    flights = await pair.start_both()
    pair.purchase.go_on.set()
    ends = await asyncio.gather(*flights, return_exceptions=True)
    assert [type(end) for end in ends] == [type(failure)] * 2
    assert pair.purchase.bought == 1


async def test_later_flights_do_not_raise_a_former_failure(pair: Pair) -> None:
    """Not even at the same gateway, whose message may still be on its way."""
    purchase = Purchase(pair.cache, done=True)
    for number in range(50):
        name = f"apple {number}"
        purchase.failure = UpstreamFailed(retry=True)
        with pytest.raises(UpstreamFailed):
            await pair.first.fly(purchase, name)
        purchase.failure = None
        assert await pair.first.fly(purchase, name) == BOUGHT
    assert pair.second.count("gateway_flights_total", role="remote") == 0


async def test_a_limit_of_the_buyer_does_not_concern_the_others(pair: Pair) -> None:
    pair.purchase.failure = InsufficientQuota("of another team")
    buying, waiting = await pair.start_both(Purchase(pair.cache, done=True))
    pair.purchase.go_on.set()
    with pytest.raises(InsufficientQuota):
        await buying
    assert await waiting == BOUGHT


async def test_another_gateway_takes_over_a_cancelled_purchase(pair: Pair) -> None:
    """At once, although the buyer's own clients get an error that is charged."""

    async def cut_off() -> Bought:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise UpstreamCut from None
        raise AssertionError

    buying = pair.first.flight(cut_off)
    await until(lambda: pair.first.election.held == 1)
    waiting = await pair.start_waiting(Purchase(pair.cache, done=True))
    buying.cancel()
    assert await waiting == BOUGHT
    with pytest.raises(UpstreamCut):
        await buying


async def test_a_cancelled_wait_leaves_no_lease(pair: Pair) -> None:
    buying, waiting = await pair.start_both()
    waiting.cancel()
    await asyncio.wait([waiting])
    await pair.assert_shared(buying)
    await until(lambda: pair.first.election.held + pair.second.election.held == 0)
    assert not await pair.has_lease()


async def test_three_gateways_buy_each_of_forty_answers_once(redis_server: RedisServer) -> None:
    cache: dict[str, Bought] = {}
    purchases = {name: Purchase(cache, name, done=True) for name in map(str, range(40))}
    a, b, c = (Gateway(redis_server, cache) for _ in range(3))
    async with a, b, c:
        flights = [each.fly(buy, name) for name, buy in purchases.items() for each in (a, b, c)]
        assert await asyncio.gather(*flights) == [BOUGHT] * 120
    assert {purchase.bought for purchase in purchases.values()} == {1}


# -- leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [1.5])
async def test_a_renewed_lease_outlives_its_seconds_many_times(pair: Pair) -> None:
    """Like a call of 60 s with leases of 5 s, in less time: no other gateway gets the lease."""
    flights = await pair.start_both()
    await asyncio.sleep(5)
    await pair.assert_shared(*flights)
    assert pair.first.count("gateway_lease_losses_total") == 0


async def test_the_lease_of_a_dead_gateway_expires(redis_server: RedisServer) -> None:
    lease = 2.0
    cache: dict[str, Bought] = {}
    async with Gateway(redis_server, cache, lease) as second:
        async with Gateway(redis_server, cache, lease) as first:
            pair = Pair(redis_server, first, second)
            successor = Purchase(cache, done=True)
            buying, waiting = await pair.start_both(successor)
        # Closed during a flight, which no drain does: nobody renews the lease or sends a message.
        async with asyncio.timeout(lease + 5):
            assert await waiting == BOUGHT
        assert (pair.purchase.bought, successor.bought) == (1, 1)
        buying.cancel()


@pytest.mark.parametrize("lease", [3.0])
async def test_a_lost_lease_is_counted_and_the_purchase_goes_on(pair: Pair) -> None:
    with capture_logs() as logged:
        buying = await pair.start_buying()
        async with pair.redis.client() as client:
            await client.hset(LEASE, "holder", "another")
            await until(lambda: pair.first.count("gateway_lease_losses_total") == 1)
            await pair.assert_shared(buying)
            assert await client.hget(LEASE, "holder") == b"another"
    warnings = [line for line in logged if line["event"].startswith("lease lost")]
    assert [line["log_level"] for line in warnings] == ["warning"]


@pytest.mark.parametrize("lease", [0.9])
async def test_a_lease_that_redis_lost_is_taken_again(pair: Pair) -> None:
    buying = await pair.start_buying()
    async with pair.redis.client() as client:
        await client.flushall()
    await until(pair.has_lease)
    await pair.assert_shared(buying, await pair.start_waiting())


# -- a store that comes and goes ------------------------------------------------------------------


async def test_lost_subscriptions_lose_no_messages(pair: Pair) -> None:
    """The lease is long: only a message, or a look after a new subscription, can end the wait."""
    async with pair.redis.client() as client:
        for _ in range(10):
            pair.purchase = Purchase(pair.cache)
            buying = await pair.start_buying()
            waiting = pair.second.flight(pair.purchase)
            await client.client_kill_filter(_type="pubsub")
            await pair.assert_shared(buying, waiting)
            pair.cache.clear()


async def test_nobody_is_elected_while_the_store_does_not_answer(pair: Pair) -> None:
    """A frozen Redis runs the command when it wakes: the lease taken then is ended."""
    purchase = Purchase(pair.cache, done=True)
    pair.redis.freeze()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(pair.first.fly(purchase), 5)
    pair.redis.thaw()
    assert purchase.bought == 0
    async with asyncio.timeout(10):
        assert await pair.second.fly(purchase) == BOUGHT


async def test_a_wait_fails_soon_if_the_store_does_not_answer(pair: Pair) -> None:
    buying, waiting = await pair.start_both()
    pair.redis.freeze()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(waiting, 10)
    pair.redis.thaw()
    await pair.assert_shared(buying)


async def test_a_failure_is_sent_once_the_store_answers_again(pair: Pair) -> None:
    """It is charged, so nobody may buy again because the message got lost."""
    pair.purchase.failure = UpstreamCut()
    buying, waiting = await pair.start_both()
    pair.redis.freeze()
    pair.purchase.go_on.set()
    with pytest.raises(UpstreamCut):
        await asyncio.wait_for(buying, 10)
    pair.redis.thaw()
    with pytest.raises(UpstreamCut):
        await asyncio.wait_for(waiting, 10)
    assert pair.purchase.bought == 1
