"""Archives of the Redis store: memory, clusters, and the keys that an import leaves."""

import time

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.stores.archive_format import EntryRecord
from gateway.stores.port import Store
from gateway.stores.redis import names
from gateway.stores.redis.scripts import script
from gateway.stores.sums import hour_of
from tests.conformance.store import MakeStore, entry
from tests.conformance.test_archive import restore
from tests.support.states import gathered, history, state


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
