"""Elections over a real Redis: one buys, the others get the result, nobody waits for the dead."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.core.errors import (
    GatewayError,
    InsufficientQuota,
    StoreUnavailable,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRefused,
)
from gateway.core.model import Bought
from gateway.proxy.election import SharedElection
from gateway.stores.redis.leases import RedisLeases
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.request_record import RequestRecord
from tests.support.money import until
from tests.support.redis import RedisServer, running_redis

BOUGHT = Bought(body=b'{"data":[]}', images=1, cost=40_000, at=1.0)
LONG = 30.0
"""A lease that no test waits for."""

Work = Callable[[], Awaitable[Bought]]


class Gateway:
    """The part of a gateway that elections need. `shop` is the shared cache."""

    def __init__(
        self, elections: SharedElection, metrics: Metrics, shop: dict[str, Bought]
    ) -> None:
        self.elections = elections
        self.metrics = metrics
        self.shop = shop

    async def fly(self, work: Work, name: str = "apple") -> Bought:
        """A flight of this name, as in `gateway.proxy.pipeline`."""

        async def look() -> Bought | None:
            return self.shop.get(name)

        record = RequestRecord(id="r", started=perf_counter())
        return (await self.elections.buy_or_wait(name, record, look, work)).bought

    def flight(self, work: Work, name: str = "apple") -> "asyncio.Task[Bought]":
        return asyncio.create_task(self.fly(work, name))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0

    async def waiting(self, flights: int = 1) -> None:
        """Return once so many flights have found that another one buys."""
        await until(lambda: self.count("gateway_flights_total", role="remote") == flights)


class Shopping:
    """Purchases that end when a test lets them. They are cached under `name` if there is one."""

    def __init__(self, shop: dict[str, Bought], name: str | None = "apple") -> None:
        self.bought = 0
        self.go_on = asyncio.Event()
        self.failure: BaseException | None = None
        self._shop = shop
        self._name = name

    async def __call__(self) -> Bought:
        self.bought += 1
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        if self._name is not None:
            self._shop[self._name] = BOUGHT
        return BOUGHT


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path / "redis") as server:
        yield server


@asynccontextmanager
async def gateway(
    redis: RedisServer, shop: dict[str, Bought], lease: float = LONG
) -> AsyncIterator[Gateway]:
    metrics = Metrics()
    elections = SharedElection(
        RedisLeases(parse_store_url(redis.url)),
        observer=metrics,
        new_id=lambda: secrets.token_hex(8),
        cache_is_shared=lambda: False,
        lease_seconds=lease,
    )
    await elections.start()
    try:
        yield Gateway(elections, metrics, shop)
    finally:
        await elections.close()


@asynccontextmanager
async def two(redis: RedisServer, lease: float = LONG) -> AsyncIterator[tuple[Gateway, Gateway]]:
    shop: dict[str, Bought] = {}
    async with gateway(redis, shop, lease) as first, gateway(redis, shop, lease) as second:
        yield first, second


async def lease_is_there(redis: RedisServer) -> bool:
    async with redis.client() as client:
        return bool(await client.exists("{gateway}:lease:apple"))


@pytest.mark.parametrize("name", ["apple", None], ids=["kept", "kept nowhere"])
async def test_one_buys_and_the_other_gets_its_answer(redis: RedisServer, name: str | None) -> None:
    """Found in the cache, or else handed over."""
    async with two(redis) as (first, second):
        work = Shopping(first.shop, name=name)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        work.go_on.set()
        assert await buying == await waiting == BOUGHT
        assert work.bought == 1


async def test_a_later_flight_finds_the_answer_in_the_cache(redis: RedisServer) -> None:
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        work.go_on.set()
        await first.fly(work)
        assert await second.fly(work) == await second.fly(work) == BOUGHT
        assert work.bought == 1


@pytest.mark.parametrize(
    "failure",
    [UpstreamCut(), UpstreamFailed(retry=True), UpstreamRefused(status=400, body=b"{}")],
    ids=["cut", "failed", "refused"],
)
async def test_a_failure_is_raised_to_all_who_wait(
    redis: RedisServer, failure: GatewayError
) -> None:
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        work.failure = failure
        flights = [first.flight(work)]
        await until(lambda: work.bought == 1)
        flights.append(second.flight(work))
        await second.waiting()
        work.go_on.set()
        ends = await asyncio.gather(*flights, return_exceptions=True)
        assert [type(end) for end in ends] == [type(failure)] * 2
        assert work.bought == 1


async def test_a_failure_is_not_raised_to_later_flights(redis: RedisServer) -> None:
    """Least of all at the same gateway, whose message may still be on its way."""
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        work.go_on.set()
        for each in range(50):
            name = f"apple {each}"
            work.failure = UpstreamFailed(retry=True)
            with pytest.raises(UpstreamFailed):
                await first.fly(work, name)
            work.failure = None
            assert await first.fly(work, name) == BOUGHT
        assert second.count("gateway_flights_total", role="remote") == 0


async def test_a_limit_of_the_buyer_does_not_concern_the_others(redis: RedisServer) -> None:
    async with two(redis) as (first, second):
        refused, work = Shopping(first.shop), Shopping(first.shop)
        refused.failure = InsufficientQuota("of another team")
        buying = first.flight(refused)
        await until(lambda: refused.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        refused.go_on.set()
        work.go_on.set()
        with pytest.raises(InsufficientQuota):
            await buying
        assert await waiting == BOUGHT


async def test_a_cancelled_purchase_is_taken_over(redis: RedisServer) -> None:
    """At once, whatever it raises to its own clients."""
    async with two(redis) as (first, second):

        async def cut_off() -> Bought:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise UpstreamCut from None
            raise AssertionError

        buying = first.flight(cut_off)
        await until(lambda: first.elections.held == 1)
        work = Shopping(first.shop)
        work.go_on.set()
        waiting = second.flight(work)
        await second.waiting()
        buying.cancel()
        assert await waiting == BOUGHT
        with pytest.raises(UpstreamCut):
            await buying


async def test_a_cancelled_wait_leaves_nothing_behind(redis: RedisServer) -> None:
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        waiting.cancel()
        await asyncio.wait([waiting])
        work.go_on.set()
        assert await buying == BOUGHT
        await until(lambda: first.elections.held + second.elections.held == 0)
        assert not await lease_is_there(redis)


@pytest.mark.parametrize("names", [1, 40])
async def test_of_many_gateways_one_buys_each(redis: RedisServer, names: int) -> None:
    shop: dict[str, Bought] = {}
    bought: list[str] = []

    async def buy(name: str) -> Bought:
        bought.append(name)
        await asyncio.sleep(0.01)
        shop[name] = BOUGHT
        return BOUGHT

    async with gateway(redis, shop) as a, gateway(redis, shop) as b, gateway(redis, shop) as c:
        flights = [
            each.fly(lambda name=f"{number}": buy(name), f"{number}")  # type: ignore[misc]
            for number in range(names)
            for each in (a, b, c)
        ]
        assert await asyncio.gather(*flights) == [BOUGHT] * (3 * names)
    assert sorted(bought) == sorted(str(number) for number in range(names))


# -- leases ---------------------------------------------------------------------------------------


async def test_a_renewed_lease_outlives_its_seconds_many_times(redis: RedisServer) -> None:
    """As a call of 60 s does with leases of 5 s, in less time: nobody else gets it."""
    async with two(redis, lease=1.5) as (first, second):
        work = Shopping(first.shop)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await asyncio.sleep(9)
        assert work.bought == 1
        work.go_on.set()
        assert await buying == await waiting == BOUGHT
        assert first.count("gateway_lease_losses_total") == 0


async def test_the_lease_of_a_dead_gateway_expires(redis: RedisServer) -> None:
    lease = 2.0
    shop: dict[str, Bought] = {}
    async with gateway(redis, shop, lease) as second:
        dead, work = Shopping(shop), Shopping(shop)
        work.go_on.set()
        async with gateway(redis, shop, lease) as first:
            buying = first.flight(dead)
            await until(lambda: dead.bought == 1)
            waiting = second.flight(work)
            await second.waiting()
        # Closed in the middle of a flight, as no drain does it: nobody renews, nobody sends.
        async with asyncio.timeout(lease + 5):
            assert await waiting == BOUGHT
        assert (dead.bought, work.bought) == (1, 1)
        buying.cancel()


async def test_a_lost_lease_is_counted_and_the_purchase_goes_on(redis: RedisServer) -> None:
    async with two(redis, lease=3.0) as (first, _):
        work = Shopping(first.shop)
        with capture_logs() as logged:
            buying = first.flight(work)
            await until(lambda: work.bought == 1)
            async with redis.client() as client:
                await client.hset("{gateway}:lease:apple", "holder", "another")
            await until(lambda: first.count("gateway_lease_losses_total") == 1)
            work.go_on.set()
            assert await buying == BOUGHT
            async with redis.client() as client:
                assert await client.hget("{gateway}:lease:apple", "holder") == b"another"
        warnings = [line for line in logged if line["event"].startswith("lease lost")]
        assert [line["log_level"] for line in warnings] == ["warning"]


async def test_a_lease_that_redis_lost_is_taken_again(redis: RedisServer) -> None:
    async with two(redis, lease=0.9) as (first, second):
        work = Shopping(first.shop)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        async with redis.client() as client:
            await client.flushall()
        await until(lambda: lease_is_there(redis))
        waiting = second.flight(work)
        await second.waiting()
        work.go_on.set()
        assert await buying == await waiting == BOUGHT
        assert work.bought == 1


# -- a store that comes and goes ------------------------------------------------------------------


async def test_lost_subscriptions_lose_no_messages(redis: RedisServer) -> None:
    """The lease is long: only a message, or a look after a new subscription, can end the wait."""
    async with two(redis) as (first, second), redis.client() as client:
        for _ in range(10):
            work = Shopping(first.shop)
            buying = first.flight(work)
            await until(lambda work=work: work.bought == 1)  # type: ignore[misc]
            waiting = second.flight(work)
            await client.client_kill_filter(_type="pubsub")
            work.go_on.set()
            async with asyncio.timeout(10):
                assert await buying == await waiting == BOUGHT
            assert work.bought == 1
            first.shop.clear()


async def test_nobody_is_elected_while_the_store_does_not_answer(redis: RedisServer) -> None:
    """A frozen Redis runs the command when it wakes: the lease taken then is ended."""
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        work.go_on.set()
        redis.freeze()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(first.fly(work), 5)
        redis.thaw()
        assert work.bought == 0
        async with asyncio.timeout(10):
            assert await second.fly(work) == BOUGHT


async def test_a_waiting_flight_fails_soon_when_the_store_does_not_answer(
    redis: RedisServer,
) -> None:
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        redis.freeze()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(waiting, 10)
        redis.thaw()
        work.go_on.set()
        assert await buying == BOUGHT
        assert work.bought == 1


async def test_a_short_outage_ends_no_wait(redis: RedisServer) -> None:
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        redis.freeze()
        await asyncio.sleep(1)
        redis.thaw()
        work.go_on.set()
        async with asyncio.timeout(10):
            assert await buying == await waiting == BOUGHT
        assert work.bought == 1


async def test_a_failure_is_sent_when_the_store_is_back(redis: RedisServer) -> None:
    """It is charged, so nobody may buy again because the message got lost."""
    async with two(redis) as (first, second):
        work = Shopping(first.shop)
        work.failure = UpstreamCut()
        buying = first.flight(work)
        await until(lambda: work.bought == 1)
        waiting = second.flight(work)
        await second.waiting()
        redis.freeze()
        work.go_on.set()
        with pytest.raises(UpstreamCut):  # the store is away still
            await asyncio.wait_for(buying, 10)
        redis.thaw()
        with pytest.raises(UpstreamCut):
            await asyncio.wait_for(waiting, 10)
        assert work.bought == 1
