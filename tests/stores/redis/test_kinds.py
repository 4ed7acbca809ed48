"""The Redis store on a cluster, behind TLS and behind sentinels: the part of the suite that takes
every script through it, and the faults that only one kind has.
"""

from functools import partial
from pathlib import Path

import pytest

from gateway.config.store_url import parse_store_url
from gateway.core.errors import StoreUnavailable
from gateway.quota.store import Change
from gateway.stores.port import UnusableStore
from gateway.stores.redis import RedisStore, names
from tests.conformance import (
    AccountConformance,
    AuditConformance,
    DirectoryConformance,
    MakeStore,
    UsageConformance,
)
from tests.conformance.store import comes_back, entry, images, put, spent
from tests.support.redis_kinds import command, running_cluster, running_sentinel, running_tls


@pytest.fixture
def make_store(kind_url: str) -> MakeStore:
    return partial(RedisStore, parse_store_url(kind_url))


class TestKinds:
    """Tests of the suite, borrowed."""

    test_changes_together = AccountConformance.test_several_accounts_change_together_or_not_at_all
    test_many_tasks = AccountConformance.test_many_tasks_over_two_stores_lose_nothing
    test_due = AccountConformance.test_accounts_are_due_when_their_first_lease_has_run_out
    test_changes = DirectoryConformance.test_changes_are_the_writes_after_a_generation
    test_replacing = AuditConformance.test_teams_and_keys_are_replaced_whole
    test_uses = DirectoryConformance.test_the_latest_use_of_a_key_is_kept
    test_check_values = DirectoryConformance.test_a_check_value_is_kept_from_its_first_time
    test_days = UsageConformance.test_days_are_utc_and_end_at_midnight_exactly


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
        running_sentinel(tmp_path, replica=True) as sentinels,
        RedisStore(parse_store_url(sentinels.url)) as store,
    ):
        await put(store, "a", spent(1))
        async with sentinels.master.client() as client:
            assert await command(client, "WAIT", 1, 5000) == 1
        await sentinels.master.kill()
        with pytest.raises(StoreUnavailable):
            await store.accounts.load(["a"])
        await comes_back(store, 30)
        assert await images(store, "a") == 1
        assert await store.accounts.swap([Change("a", 1, spent(2))], [entry("e")])


async def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    async with running_tls(tmp_path) as server:
        url = server.url.partition("?")[0]
        with pytest.raises(UnusableStore, match="certificate cannot be trusted"):
            async with RedisStore(parse_store_url(url)):
                pytest.fail("it was opened")
