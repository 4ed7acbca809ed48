"""Archives of the Redis store: memory, clusters, and the keys that an import leaves."""

import time
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.stores.archive_format import EntryRecord, NotRestored
from gateway.stores.port import Store
from gateway.stores.redis import RedisStore, names
from gateway.stores.redis.scripts import script
from gateway.stores.sums import hour_of
from tests.conformance.archive import broken, damaged, restore
from tests.conformance.store import MakeStore, entry
from tests.support.redis_kinds import running_cluster
from tests.support.states import gathered, history, state
from tests.support.stores import Places


async def test_only_usage_that_may_be_written_again_is_kept_by_id(
    make_store: MakeStore, client: Redis
) -> None:
    old, recent = time.time() - 5 * 86_400, time.time() - 7_200
    entries = [entry("old", at=old), entry("recent", at=recent), entry("too", at=recent)]
    await restore(make_store, state(entries))
    assert await client.exists(names.usage(hour_of(old)))
    assert not await client.exists(names.purchases(hour_of(old)))
    assert await client.hlen(names.purchases(hour_of(recent))) == 2


async def test_an_export_sums_hits_up_and_has_purchases_one_by_one(store: Store) -> None:
    """There may be a million hits in an hour: read by id, they would take too long."""
    now = time.time()
    hits = [
        entry(f"hit{n}", at=now, outcome="cached", requests=n, images_bought=0, cost=0, saved=n)
        for n in (1, 2, 3)
    ]
    bought = [entry("p1", at=now), entry("p2", at=now, cost=7)]
    await store.accounts.record([*hits, *bought])
    records = await gathered(store.archive.export())
    found = [record.entry for record in records if isinstance(record, EntryRecord)]
    hit = next(each for each in found if each.outcome == "cached")
    assert (hit.requests, hit.saved) == (6, 6)
    assert {each.id: each.cost for each in found if each is not hit} == {"p1": 5, "p2": 7}


async def test_an_import_that_does_not_fit_is_taken_back(
    make_store: MakeStore, client: Redis
) -> None:
    now = time.time()
    entries = [replace(e, at=now - number) for number, e in enumerate(history(40_000))]
    memory = await client.info("memory")
    await client.config_set("maxmemory", memory["used_memory"] + 3_000_000)
    with pytest.raises(StoreUnavailable):
        await restore(make_store, state(entries))
    assert await client.dbsize() == 0
    await restore(make_store, state(entries[:100]))
    async with make_store() as store:
        (row,) = await store.usage.report([], None, None)
        assert row.requests == sum(each.requests for each in entries[:100])


async def test_an_import_that_ends_too_late_removes_nothing(
    make_store: MakeStore, client: Redis
) -> None:
    """Not even in its new epoch: gateways may have bought since."""
    await restore(make_store, state(history(10)))
    epoch = await client.hget(names.META, "epoch")
    before = await client.dbsize()
    with pytest.raises(ResponseError, match="IMPORT over"):
        await script("remove").run(client, (names.META, names.META), (epoch or b"",))
    assert await client.dbsize() == before > 0


async def test_a_cluster_can_be_exported_and_restored(tmp_path: Path, places: Places) -> None:
    records = state(history(2_000, now=time.time()))
    async with running_cluster(tmp_path) as cluster:
        make_store = partial(RedisStore, parse_store_url(cluster.url))
        with pytest.raises(NotRestored):
            await restore(make_store, broken(records, damaged))
        await restore(make_store, records)
        async with make_store() as store:
            exported = await gathered(store.archive.export())
    make_single = places.new("redis")
    await restore(make_single, exported)
    async with make_single() as store:
        (row,) = await store.usage.report([], None, None)
        assert row.cost == sum(r.entry.cost for r in records if isinstance(r, EntryRecord))
