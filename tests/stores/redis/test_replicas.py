"""`wait_replicas`: a purchase counts only when replicas have it."""

import random
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.quota.account import team_account
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held
from gateway.quota.store import Change
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.accounts import unstamped
from gateway.stores.redis.link import CALM_SECONDS
from tests.conformance.store import entry, spent
from tests.support.quota_steps import reserve, settle
from tests.support.redis import RedisServer, running_redis
from tests.support.redis_kinds import command, running_cluster, running_replicas
from tests.support.rig import running_rig
from tests.support.steps import AWAY, calls, until

RED = team_account("red")


class Pair(NamedTuple):
    """A store that waits for one replica, and both servers."""

    store: RedisStore
    primary: RedisServer
    replica: RedisServer


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        running_redis(tmp_path / "primary", repl_diskless_sync_delay="0") as primary,
        running_replicas(tmp_path, primary, 1) as (replica,),
        RedisStore(parse_store_url(primary.url), wait_replicas=1) as store,
    ):
        yield Pair(store, primary, replica)


async def counts(store: RedisStore) -> bool:
    """Whether a swap is acknowledged."""
    ((_, version),) = (await store.accounts.load(["a"])).accounts
    try:
        return await store.accounts.swap([Change("a", version, spent(3))], [])
    except StoreUnavailable:  # the replica has not yet caught up
        return False


async def test_a_swap_without_enough_replicas_is_refused_in_time(pair: Pair) -> None:
    store, _, replica = pair
    with capture_logs() as lines:  # the replica may have been slow at first, too
        await until(partial(counts, store))
        ((_, version),) = (await store.accounts.load(["a"])).accounts
        replica.freeze()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as refused:
            await store.accounts.swap([Change("a", version, spent(2))], [])
        assert time.monotonic() - started < 6
        assert "0 of 1 replicas acknowledged" in str(refused.value.__cause__)
        with pytest.raises(StoreUnavailable) as unready:
            await store.accounts.probe(thorough=False)
        assert unready.value.cause == "too few of its replicas acknowledge purchases"
        assert not await store.accounts.swap(
            [Change("a", version, spent(2))], []
        )  # it wrote nothing
        await store.accounts.record([entry("free")])  # no purchase
        assert (await store.accounts.load(["a"])).accounts == [(spent(2), version + 1)]
        assert len(lines) % 2 == 1
        replica.thaw()
        await until(partial(counts, store))

        async def is_said() -> bool:
            await counts(store)
            return len(lines) % 2 == 0

        await until(is_said, CALM_SECONDS + 10, 0.1)
    said = ["the store takes no writes", "the store takes writes again"]
    assert [line["event"] for line in lines] == said * (len(lines) // 2)


async def test_a_purchase_that_no_replica_has_is_refused_and_its_hold_cancelled(
    pair: Pair,
) -> None:
    store, _, replica = pair
    ledger = Ledger(store.accounts, spread=random.random)
    async with ledger:
        assert isinstance(await ledger.reserve(reserve("first")), Held)
        replica.freeze()
        # Retries find the hold written, and write again before they wait.
        with pytest.raises(StoreUnavailable):
            await ledger.reserve(reserve("second"))
        replica.thaw()
        await until(lambda: not ledger.unwritten)
        await ledger.finish(settle("first"))
        ((account, version),) = (await store.accounts.load([RED])).accounts
        assert (account.day.images, account.day.held_images, account.holds) == (1, 0, {})
        assert version > 4
        async with replica.client() as client:  # it has what the ledger acknowledged
            state = await client.hget(names.ACCOUNTS, RED)
        assert isinstance(state, bytes)
        assert unstamped(state) == (version, account)


async def test_a_gateway_sends_nothing_upstream_for_a_purchase_that_no_replica_has(
    tmp_path: Path,
) -> None:
    async with (
        running_redis(tmp_path / "primary", repl_diskless_sync_delay="0") as primary,
        running_replicas(tmp_path, primary, 1) as (replica,),
        running_rig(
            tmp_path, STORE_URL=primary.url, STORE_WAIT_REPLICAS="1", KEYS_PEPPER="p" * 32
        ) as rig,
    ):
        key = await rig.key()
        assert (await rig.generate(key)).status == 200
        replica.freeze()
        assert (await rig.generate(key, "another")).error == AWAY
        assert calls(rig) == 1
        replica.thaw()

        async def bought() -> bool:
            return (await rig.generate(key, "another")).status == 200

        await until(bought)
        assert calls(rig) == 2


async def test_a_cluster_without_replicas_cannot_acknowledge(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        place = parse_store_url(cluster.url)
        async with RedisStore(place, wait_replicas=1) as store:
            with pytest.raises(StoreUnavailable):
                await store.accounts.swap([Change("a", 0, spent(1))], [])
            owner = await cluster.owner(names.META)
            async with owner.client() as client:  # WAIT went to the node that has the account
                stats = await client.info("commandstats")
                assert (
                    stats["cmdstat_wait"]["calls"] == 2
                )  # once for a script that was not known yet
                assert await command(client, "HEXISTS", names.ACCOUNTS, "a") == 1
