"""The suite for AuditStore, and for `DirectoryStore.commit`, which writes the audit log."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.core.model import AuditEntry, Limits, Team
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryWrite, UnknownTeam
from tests.conformance.store import NOON, MakeStore
from tests.conformance.test_directory import BLUE, OTHER, everything
from tests.support.states import CREATED, KEY, PURGED, RED

LIMITED = replace(OTHER, id="k3", limits=Limits(images_per_day=0, cost_per_month=2**53 + 1))

REVOKED = AuditEntry(
    at=NOON - 30,
    who="admin token ops",
    action="key.revoke",
    team="red",
    key="sk-gw-k1",
    before={"state": "active", "limits": {"cost_per_day_usd": "0.5"}},
    after={"state": "revoked"},
)


async def committed(store: Store, write: DirectoryWrite) -> bool:
    """Write on the latest generation; return whether that was done."""
    return await store.directory.commit((await store.directory.changes(0)).generation, write)


async def test_teams_keys_and_log_are_written_together(make_store: MakeStore) -> None:
    write = DirectoryWrite(teams=[RED, BLUE], keys=[KEY, OTHER, LIMITED], audit=[CREATED])
    async with make_store() as store:
        assert await committed(store, write)
    async with make_store() as store:
        found = await store.directory.changes(0)
        assert sorted(found.teams, key=lambda team: team.name) == [BLUE, RED]
        assert sorted(found.keys, key=lambda key: key.id) == [KEY, OTHER, LIMITED]
        assert await store.audit.entries(None, None) == [CREATED]


async def test_teams_and_keys_are_replaced_whole(store: Store, other: Store) -> None:
    key = replace(KEY, name="", expires=None, state="revoked", grace_ends=NOON)
    assert await committed(store, DirectoryWrite(teams=[RED], keys=[KEY, LIMITED]))
    before = await other.directory.changes(0)
    gone = Team(name="red", deleted=True)
    assert await committed(store, DirectoryWrite(teams=[gone], keys=[key]))
    after = await other.directory.changes(before.generation)
    assert (after.teams, after.keys) == ([gone], [key])
    assert after.generation > before.generation
    assert len((await other.directory.changes(0)).keys) == 2


async def test_of_writes_at_once_on_one_generation_one_is_done(store: Store, other: Store) -> None:
    generation = (await store.directory.changes(0)).generation
    writes = [
        (stores, DirectoryWrite(teams=[replace(RED, max_n=n + 1)], audit=[CREATED]))
        for n, stores in enumerate([store, other] * 5)
    ]
    done = await asyncio.gather(*(to.directory.commit(generation, write) for to, write in writes))
    assert sum(done) == 1
    (_, kept) = writes[done.index(True)]
    found = await store.directory.changes(0)
    assert found.teams == list(kept.teams)
    assert not await store.directory.commit(found.generation + 1_000, DirectoryWrite(keys=[KEY]))
    assert await store.audit.entries(None, None) == [CREATED]


async def test_a_log_entry_or_a_use_is_no_change_of_the_directory(store: Store) -> None:
    assert await committed(store, DirectoryWrite(teams=[RED], keys=[KEY]))
    before = await everything(store)
    assert await committed(store, DirectoryWrite(audit=[PURGED]))
    await store.directory.record_use({"k1": NOON})
    assert await everything(store) == before
    assert await store.audit.entries(None, None) == [PURGED]


async def test_a_key_of_no_team_is_refused_with_all_else(store: Store) -> None:
    before = await everything(store)
    with pytest.raises(UnknownTeam, match="'red'"):
        await committed(store, DirectoryWrite(teams=[BLUE], keys=[KEY], audit=[CREATED]))
    assert await everything(store) == before
    assert await store.audit.entries(None, None) == []


async def test_the_log_is_read_by_time_and_team_the_latest_first(store: Store) -> None:
    assert await committed(store, DirectoryWrite(audit=[CREATED, REVOKED]))
    assert await committed(store, DirectoryWrite(audit=[PURGED]))
    assert await store.audit.entries(None, None) == [PURGED, REVOKED, CREATED]
    assert await store.audit.entries(NOON - 30, None) == [PURGED, REVOKED]
    assert await store.audit.entries(None, NOON - 30) == [CREATED]
    assert await store.audit.entries(CREATED.at, NOON, "red") == [REVOKED, CREATED]
    assert await store.audit.entries(None, None, "red", 1) == [REVOKED]
    assert await store.audit.entries(None, None, "blue") == []


async def test_what_is_old_is_forgotten(store: Store) -> None:
    assert await committed(store, DirectoryWrite(audit=[CREATED, REVOKED, PURGED]))
    await store.audit.forget(NOON - 30)
    assert await store.audit.entries(None, None) == [PURGED, REVOKED]
    await store.audit.forget(NOON + 1_000)
    assert await store.audit.entries(None, None) == []
