"""The suite for DirectoryStore: teams, keys, and check values."""

from msgspec.structs import replace

from gateway.core.model import Key, Team
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryChanges
from tests.conformance.store import NOON, MakeStore
from tests.support.directory import put_key, put_teams, set_state
from tests.support.states import KEY, RED

BLUE = Team(name="blue")
OTHER = Key(id="k2", team="red", name="", digest=b"\0" * 32, created=NOON)


async def everything(store: Store, since: int = 0) -> DirectoryChanges:
    """Return all changes without the time, which differs in each call."""
    return replace(await store.directory.changes(since), now=None)


async def test_changes_are_the_writes_after_a_generation(store: Store, other: Store) -> None:
    await put_teams(store.directory, [RED, BLUE])
    teams = await other.directory.changes(0)
    await put_key(store.directory, KEY)
    keys = await other.directory.changes(teams.generation)
    assert (keys.teams, keys.keys) == ([], [KEY])
    assert keys.generation > teams.generation
    await put_teams(store.directory, [replace(RED, max_n=2)])
    await set_state(store.directory, "k1", "disabled")
    last = await other.directory.changes(keys.generation)
    assert last.teams == [replace(RED, max_n=2)]
    assert last.keys == [replace(KEY, state="disabled")]
    none = await other.directory.changes(last.generation)
    assert (none.generation, none.teams, none.keys) == (last.generation, [], [])


async def test_a_generation_of_another_time_gets_everything(store: Store) -> None:
    empty = await everything(store)
    assert (empty.teams, empty.keys, empty.whole) == ([], [], True)
    await put_teams(store.directory, [BLUE])
    former = await everything(store)
    assert (former.teams, former.whole) == ([BLUE], True)
    assert await everything(store, former.generation + 1_000_000) == former
    await put_teams(store.directory, [RED])
    assert not (await everything(store, former.generation)).whole


async def test_the_latest_use_of_a_key_is_kept(make_store: MakeStore) -> None:
    async with make_store() as store, make_store() as other:
        assert await store.directory.last_uses() == {}
        await store.directory.record_use({})
        await store.directory.record_use({"k1": NOON, "k2": NOON + 0.25})
        await other.directory.record_use({"k1": NOON - 1, "k2": NOON + 61})
        assert await other.directory.last_uses() == {"k1": NOON, "k2": NOON + 61}
    async with make_store() as store:
        assert await store.directory.last_uses() == {"k1": NOON, "k2": NOON + 61}


async def test_a_check_value_is_kept_from_its_first_time(make_store: MakeStore) -> None:
    async with make_store() as store, make_store() as other:
        assert await store.check_value("pepper", b"\0right")
        assert await other.check_value("pepper", b"\0right")
        assert not await other.check_value("pepper", b"\0wrong")
        assert await other.check_value("another", b"\0wrong")
    async with make_store() as store:
        assert not await store.check_value("pepper", b"")
        assert await store.check_value("pepper", b"\0right")
