"""The Redis store's usage history: its sums, its packs, and how long it keeps entries by id."""

import pytest
from redis.asyncio import Redis

from gateway.core.model import Entry
from gateway.quota.account import EMPTY
from gateway.quota.store import Change
from gateway.stores.port import Store
from gateway.stores.redis import names
from gateway.stores.redis.usage_sums import FULL_FIELDS, packs_of
from tests.conformance.store import MIDNIGHT, entry
from tests.conformance.test_usage import everything, tidied

HOUR = 3600
MIDNIGHT_HOUR = int(MIDNIGHT) // HOUR


@pytest.mark.parametrize(
    "entries",
    [
        [entry("new", cost=6 * 10**18)],
        [entry("new", cost=2**53), entry("e", cost=-1)],
        [entry("new", cost=4 * 10**18), entry("more", cost=2 * 10**18)],
    ],
    ids=["sum", "negative", "together"],
)
async def test_numbers_too_large_for_a_sum_are_refused_before_any_write(
    entries: list[Entry], store: Store, client: Redis
) -> None:
    await store.accounts.swap([Change("a", 0, EMPTY)], [entry("e", cost=4 * 10**18 + 1)])
    before = {key: await client.dump(key) for key in await client.keys()}
    with pytest.raises(OverflowError):
        await store.accounts.swap([Change("a", 1, EMPTY)], entries)
    assert {key: await client.dump(key) for key in await client.keys()} == before
    assert await store.accounts.swap([Change("a", 1, EMPTY)], [entry("new", cost=2**53)])
    (row,) = await store.usage.report([], None, None)
    assert row.cost == 4 * 10**18 + 1 + 2**53


async def test_entries_can_be_taken_back_for_a_while_and_sums_stay(
    store: Store, client: Redis
) -> None:
    now = (await store.accounts.load([])).now
    for at in (now - 40 * 86_400, now):
        hour = int(at) // HOUR
        await store.accounts.record([entry("e", at=at), entry("h", at=at, outcome="cached")])
        seconds = await client.ttl(names.purchases(hour))
        assert 3 * 86_400 - 60 < seconds <= 3 * 86_400 + HOUR
        assert HOUR - 60 < await client.ttl(names.hits(hour)) <= 2 * HOUR
        assert await client.ttl(names.usage(hour)) == -1


async def packed(client: Redis) -> list[int]:
    """Return how many fields the packs of the hour, its day and its week have."""
    return [await client.hlen(key) for key in packs_of(MIDNIGHT_HOUR)]


async def test_sums_are_moved_into_packs_when_their_hour_is_over(
    store: Store, client: Redis
) -> None:
    await store.accounts.record([entry("1", at=MIDNIGHT), entry("2", at=MIDNIGHT, team="blue")])
    before = await everything(store)
    await tidied(store, MIDNIGHT + HOUR - 1, None)
    assert await packed(client) == [0, 0, 0]
    await tidied(store, MIDNIGHT + HOUR, None)
    # Two teams and the version; the day has the totals too.
    assert await packed(client) == [3, 4, 3]
    assert await everything(store) == before
    assert not await client.exists(names.usage(MIDNIGHT_HOUR), names.HOURS)
    assert await client.hget(names.META, "schema") == b"2"


async def test_a_running_hour_is_packed_where_it_has_much(store: Store, client: Redis) -> None:
    teams = FULL_FIELDS // 3 + 1  # each has requests, images and cost
    await store.accounts.record(
        [entry(str(n), at=MIDNIGHT, team=f"t{n:04}", key=f"k{n}") for n in range(teams)]
    )
    before = await everything(store)
    assert await store.usage.tidy(MIDNIGHT + 60, None)
    assert await packed(client) == [201, 202, 201]
    assert await everything(store) == before
    await tidied(store, MIDNIGHT + HOUR, None)
    assert (await packed(client))[0] == teams + 1
    assert await everything(store) == before


async def test_usage_that_is_forgotten_leaves_nothing(store: Store, client: Redis) -> None:
    await store.accounts.load([])
    before = await client.dbsize()
    hours = [entry(str(hour), at=MIDNIGHT + hour * HOUR) for hour in range(24 * 15)]
    await store.accounts.record(hours)
    await tidied(store, MIDNIGHT + 8 * 24 * HOUR, None)
    await tidied(store, MIDNIGHT + 90 * 24 * HOUR, MIDNIGHT + 50 * 24 * HOUR)
    assert await store.usage.report([], None, None) == []
    assert await client.dbsize() == before
