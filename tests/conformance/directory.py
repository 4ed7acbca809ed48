"""The suite for DirectoryStore: teams, keys, and check values."""

from msgspec.structs import replace

from gateway.core.model import Key, Limits, Team
from gateway.stores.port import Store
from gateway.tenants.store import DirectoryChanges
from tests.conformance.store import NOON, MakeStore
from tests.support.directory import put_key, put_teams, set_state

RED = Team(
    name="red",
    models=("gpt-image-2",),
    sizes=(),
    qualities=("low", "high"),
    max_n=4,
    cache=False,
    limits=Limits(images_per_day=100, cost_per_month=2**53 + 1, concurrent_requests=0),
)
BLUE = Team(name="blue")
KEY = Key(id="k1", team="red", name="Ünï", digest=bytes(range(32)), created=NOON, expires=NOON + 1)
LIMITED = Key(
    id="k3",
    team="red",
    name="",
    digest=b"\1" * 32,
    created=NOON,
    limits=Limits(images_per_day=0, cost_per_month=2**53 + 1),
)
OTHER = Key(id="k2", team="red", name="", digest=b"\0" * 32, created=NOON)


async def everything(store: Store, since: int = 0) -> DirectoryChanges:
    """Return all changes without the time, which differs in each call."""
    return replace(await store.directory.changes(since), now=None)


class DirectoryConformance:
    async def test_an_empty_directory_has_no_changes(self, store: Store) -> None:
        changes = await store.directory.changes(0)
        assert (changes.teams, changes.keys) == ([], [])
        assert (await store.directory.changes(changes.generation)).generation == changes.generation

    async def test_teams_and_keys_come_back_as_they_were(self, make_store: MakeStore) -> None:
        async with make_store() as store:
            await put_teams(store.directory, [RED, BLUE])
            await put_key(store.directory, KEY)
            await put_key(store.directory, OTHER)
            await put_key(store.directory, LIMITED)
        async with make_store() as store:
            changes = await store.directory.changes(0)
            assert sorted(changes.teams, key=lambda team: team.name) == [BLUE, RED]
            assert sorted(changes.keys, key=lambda key: key.id) == [KEY, OTHER, LIMITED]

    async def test_changes_are_the_writes_after_a_generation(
        self, store: Store, other: Store
    ) -> None:
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

    async def test_a_generation_of_another_time_gets_everything(self, store: Store) -> None:
        await put_teams(store.directory, [BLUE])
        former = await everything(store)
        changes = await everything(store, former.generation + 1_000_000)
        assert changes == former
        assert changes.teams == [BLUE]
        assert changes.whole

    async def test_a_part_of_the_directory_is_not_marked_as_whole(self, store: Store) -> None:
        first = await everything(store)
        await put_teams(store.directory, [BLUE])
        assert first.whole
        assert (await everything(store)).whole
        generation = (await everything(store)).generation
        await put_teams(store.directory, [RED])
        assert not (await store.directory.changes(generation)).whole

    async def test_replacing_a_team_keeps_its_keys(self, store: Store) -> None:
        await put_teams(store.directory, [RED])
        await put_key(store.directory, KEY)
        await put_teams(store.directory, [Team(name="red"), BLUE])
        changes = await store.directory.changes(0)
        assert sorted(changes.teams, key=lambda team: team.name) == [BLUE, Team(name="red")]
        assert changes.keys == [KEY]

    async def test_the_latest_use_of_a_key_is_kept(self, make_store: MakeStore) -> None:
        async with make_store() as store, make_store() as other:
            assert await store.directory.last_uses() == {}
            await store.directory.record_use({})
            await store.directory.record_use({"k1": NOON, "k2": NOON + 0.25})
            await other.directory.record_use({"k1": NOON - 1, "k2": NOON + 61})
            assert await other.directory.last_uses() == {"k1": NOON, "k2": NOON + 61}
        async with make_store() as store:
            assert await store.directory.last_uses() == {"k1": NOON, "k2": NOON + 61}

    async def test_a_use_is_no_change_of_the_directory(self, store: Store) -> None:
        await put_teams(store.directory, [RED])
        await put_key(store.directory, KEY)
        before = await everything(store)
        await store.directory.record_use({"k1": NOON})
        assert await everything(store) == before

    async def test_a_check_value_is_kept_from_its_first_time(self, make_store: MakeStore) -> None:
        async with make_store() as store, make_store() as other:
            assert await store.check_value("pepper", b"\0right")
            assert await other.check_value("pepper", b"\0right")
            assert not await other.check_value("pepper", b"\0wrong")
            assert await other.check_value("another", b"\0wrong")
        async with make_store() as store:
            assert not await store.check_value("pepper", b"")
            assert await store.check_value("pepper", b"\0right")
