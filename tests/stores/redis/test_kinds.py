"""The Redis store on a cluster, behind TLS, behind sentinels and on a Unix socket: every script
goes through it, and each kind has faults of its own.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from pathlib import Path

import pytest

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.proxy.leases import LeaseEvent
from gateway.quota.store import Change
from gateway.stores.archive_format import NotRestored
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.leases import RedisLeases
from tests.conformance.store import comes_back, entry, images, put, spend, spent
from tests.conformance.test_archive import broken, damaged, restore, usages
from tests.stores.redis.test_leases import BOUGHT, MINE, OTHERS, PEAR, listening, opened
from tests.stores.redis.test_outages import operations
from tests.support.redis_kinds import (
    Cluster,
    Sentinels,
    TlsServer,
    UnixServer,
    command,
    running_cluster,
    running_sentinel,
    running_tls,
    running_unix,
)
from tests.support.states import gathered, history, state
from tests.support.stores import Places


@pytest.mark.parametrize("running", [running_cluster, running_tls, running_sentinel, running_unix])
async def test_every_kind_does_all_of_it(
    running: Callable[
        [Path], AbstractAsyncContextManager[Cluster | TlsServer | Sentinels | UnixServer]
    ],
    tmp_path: Path,
    places: Places,
) -> None:
    async with running(tmp_path) as server:
        make_store = partial(RedisStore, parse_store_url(server.url))
        records = state(history(300, now=time.time()))
        with pytest.raises(NotRestored):
            await restore(make_store, broken(records, damaged))
        await restore(make_store, records)
        chance = random.Random(5)
        async with make_store() as store, make_store() as other:
            stores = (store, other) * 20
            await asyncio.gather(*(spend(s, "a", f"{n}", chance) for n, s in enumerate(stores)))
            assert (await store.accounts.load(["a"])).accounts == [(spent(40), 40)]
            for operation in operations(store):
                await operation()
            rows = await usages(store)
            make_single = places.new("redis")
            await restore(make_single, await gathered(store.archive.export()))
        async with make_single() as single:
            assert await usages(single) == rows
        async with opened(server.url) as leases:
            await every_lease_operation(leases)


async def every_lease_operation(leases: RedisLeases) -> None:
    assert await leases.take(MINE, 5) is await leases.take(PEAR, 5) is None
    assert await leases.take(OTHERS, 5) is not None
    assert await leases.renew([MINE, PEAR, OTHERS], 5) == [OTHERS]
    assert await leases.hand_over(MINE, BOUGHT) is True
    async with listening(leases) as first, listening(leases) as second:
        await leases.end([(MINE, b"one"), (PEAR, b"two")])
        for listener in (first, second):
            assert await listener.next() == LeaseEvent(MINE, b"one")
            assert await listener.next() == LeaseEvent(PEAR, b"two")
    assert await leases.handed_over(MINE) == BOUGHT
    assert await leases.take(OTHERS, 5) is None


async def test_a_cluster_whose_node_is_away_is_an_outage_that_ends_by_itself(
    tmp_path: Path,
) -> None:
    async with (
        running_cluster(tmp_path) as cluster,
        RedisStore(parse_store_url(cluster.url)) as store,
    ):
        await put(store, "a", spent(1))
        owner = await cluster.owner(names.META)
        owner.freeze()
        with pytest.raises(StoreUnavailable):
            await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        owner.thaw()
        await comes_back(store, 20)
        ((account, version),) = (await store.accounts.load(["a"])).accounts
        assert (account, version) in [(spent(1), 1), (spent(2), 2)]
        assert await store.accounts.swap([Change("a", version, spent(3))], [])


async def test_a_failover_is_an_outage_that_ends_by_itself(tmp_path: Path) -> None:
    async with (
        running_sentinel(tmp_path, replicas=1) as sentinels,
        RedisStore(parse_store_url(sentinels.url)) as store,
        opened(sentinels.url) as leases,
    ):
        await put(store, "a", spent(1))
        async with sentinels.primary.client() as client:
            assert await command(client, "WAIT", 1, 5000) == 1
        async with listening(leases) as listener:
            await sentinels.primary.kill()
            with pytest.raises(StoreUnavailable):
                await store.accounts.load(["a"])
            with pytest.raises(StoreUnavailable):
                await asyncio.wait_for(listener.task, 10)
        await comes_back(store, 30)
        assert await images(store, "a") == 1
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])
        assert await event_after_failover(leases) == LeaseEvent(MINE, b"heard")


async def event_after_failover(leases: RedisLeases) -> LeaseEvent | None:
    """Return an event of a new subscription. Sentinel may close connections to a new master too."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with aclosing(leases.listen()) as events:
                    assert await anext(events) is None
                    await leases.take(MINE, 5)
                    await leases.end([(MINE, b"heard")])
                    return await anext(events)
            except StoreUnavailable:
                await asyncio.sleep(0.2)


async def refusal(url: str) -> str:
    """Return why a store at this URL cannot be opened."""
    with pytest.raises((UnusableStore, StoreUnavailable)) as refused:
        async with RedisStore(parse_store_url(url)):
            pytest.fail("it was opened")
    return str(refused.value)


async def test_a_certificate_that_is_missing_or_not_trusted_is_refused(tmp_path: Path) -> None:
    async with running_tls(tmp_path) as server:
        url, _, options = server.url.partition("?")
        authority, _, shown = options.partition("&")
        assert "certificate cannot be trusted" in await refusal(f"{url}?{shown}")
        # The server may cut the connection before its reason has arrived.
        async with asyncio.timeout(60):
            while "client certificate (ssl_certfile" not in await refusal(f"{url}?{authority}"):
                pass
