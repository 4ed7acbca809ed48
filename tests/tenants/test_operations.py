"""What an operator does with teams and keys, over a real store that has the team design."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.listing import Listing, listing
from gateway.core.model import NO_LIMITS, Key, KeyState, Limits, Team
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.changes import Actor, OperationError, UnknownName
from gateway.tenants.operations import (
    Applied,
    KeyChange,
    Rotated,
    TeamChange,
    apply_teams,
    change_key,
    change_team,
    create_key,
    list_keys,
    list_teams,
    rotate_key,
    set_key_state,
)
from gateway.tenants.store import AuditStore, DirectoryStore
from tests.support.directory import put_teams

PEPPER = b"a pepper of tests, long enough"
NOW = 1_700_000_000.0
WHO = "a test"
BY = Actor(WHO, NOW)
DESIGN = Team(name="design")


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as opened:
        yield opened


@pytest.fixture
async def store(opened: SqliteStore) -> DirectoryStore:
    await put_teams(opened.directory, [DESIGN])
    return opened.directory


@pytest.fixture
def audit(opened: SqliteStore) -> AuditStore:
    return opened.audit


async def new_key(
    store: DirectoryStore,
    team: str = "design",
    lifetime: float | None = None,
    now: float = NOW,
    limits: Limits = NO_LIMITS,
) -> tuple[Key, str]:
    by = Actor(WHO, now)
    return await create_key(
        store, team=team, name="Web shop", lifetime=lifetime, pepper=PEPPER, by=by, limits=limits
    )


async def rotate(store: DirectoryStore, id: str, grace: float = 60.0, now: float = NOW) -> Rotated:
    return await rotate_key(store, id, grace=grace, pepper=PEPPER, by=Actor(WHO, now))


async def enable(store: DirectoryStore, id: str, now: float = NOW) -> Key:
    return await set_key_state(store, id, "active", Actor(WHO, now))


async def disable(store: DirectoryStore, id: str) -> Key:
    return await set_key_state(store, id, "disabled", BY)


async def revoke(store: DirectoryStore, id: str) -> Key:
    return await set_key_state(store, id, "revoked", BY)


async def rename(store: DirectoryStore, id: str) -> Key:
    return await change_key(store, id, KeyChange(name="x"), BY)


# -- teams --------------------------------------------------------------------------------------


async def test_applying_reports_each_team_and_writes_only_changes(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="same"), Team(name="other")])
    design = Team(name="design", sizes=("auto",), limits=Limits(cost_per_day=1_500_000))
    file = [Team(name="new"), design, Team(name="same")]
    assert await apply_teams(store, file, BY) == Applied(
        created=["new"], replaced=["design"], unchanged=["same"], left_alone=["other"]
    )
    assert (await list_teams(store))[0] == design
    generation = (await store.changes(0)).generation
    assert (await apply_teams(store, file, BY)).unchanged == ["new", "design", "same"]
    assert (await store.changes(0)).generation == generation


async def test_an_unknown_team_is_reported_with_the_known_ones(opened: SqliteStore) -> None:
    store = opened.directory
    with pytest.raises(UnknownName, match="There are no teams yet"):
        await new_key(store)
    await put_teams(store, [Team(name="research"), DESIGN])
    with pytest.raises(UnknownName) as refused:
        await new_key(store, "desing")
    assert str(refused.value) == "There is no team desing. The teams are design, research."
    with pytest.raises(UnknownName, match="There is no team sales"):
        await list_keys(store, "sales")
    assert (await store.changes(0)).keys == []


async def test_teams_are_listed_by_name_and_keys_by_team_and_age(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="b"), Team(name="a")])
    assert [team.name for team in await list_teams(store)] == ["a", "b", "design"]
    late, _ = await new_key(store, "b", now=NOW + 1)
    early, _ = await new_key(store, "b")
    first, _ = await new_key(store, "a", now=NOW + 2)
    assert await list_keys(store) == [first, early, late]
    assert await list_keys(store, "a") == [first]


async def test_a_deleted_team_is_gone_with_its_keys_and_can_come_back(
    store: DirectoryStore,
) -> None:
    await put_teams(store, [Team(name="other")])
    key, _ = await new_key(store)
    other, _ = await new_key(store, "other")
    assert await change_team(store, "design", lambda before: None, BY) == TeamChange(
        before=listing(DESIGN), after=None
    )
    assert [left.name for left in await list_teams(store)] == ["other"]
    with pytest.raises(UnknownName, match="There is no team design"):
        await new_key(store)
    states = {key.id: key.state for key in (await store.changes(0)).keys}
    assert states == {key.id: "revoked", other.id: "active"}
    assert (await apply_teams(store, [DESIGN], BY)).created == ["design"]
    assert (await list_keys(store, "design"))[0].state == "revoked"


async def test_concurrent_changes_of_a_team_all_count(store: DirectoryStore) -> None:
    def raised(team: Listing | None) -> Team:
        assert team is not None
        return Team(name="design", max_n=(team["max_n"] or 0) + 1)

    await asyncio.gather(*(change_team(store, "design", raised, BY) for _ in range(5)))
    assert (await list_teams(store))[0].max_n == 5


# -- the states of keys -------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["{id}", "sk-gw-{id}", " sk-gw-{id}\n", "{text}"])
async def test_a_key_is_found_by_its_id_or_its_whole_text(
    store: DirectoryStore, written: str
) -> None:
    key, text = await new_key(store)
    assert (await store.changes(0)).keys == [key]
    changed = await disable(store, written.format(id=key.id, text=text))
    assert changed == replace(key, state="disabled")
    assert await enable(store, key.id) == key
    for _ in range(2):
        assert (await revoke(store, key.id)).state == "revoked"


@pytest.mark.parametrize(
    "written", ["", "0123456789ab", "sk-proj-abcdefgh", "sk-gw-", "_", "\udcff"]
)
async def test_an_unknown_id_is_not_repeated(store: DirectoryStore, written: str) -> None:
    for operation in (revoke, rotate, rename):
        with pytest.raises(UnknownName) as refused:
            await operation(store, written)
        assert str(refused.value) == (
            "There is no key with this id. 'gateway keys list' shows all keys."
        )


@pytest.mark.parametrize(
    ("state", "operation", "why"),
    [
        ("revoked", enable, "is revoked, which is final"),
        ("revoked", disable, "is revoked, which is final"),
        ("revoked", rotate, "is revoked, which is final"),
        ("revoked", rename, "is revoked, which is final"),
        ("disabled", rotate, "is disabled: enable it first"),
    ],
)
async def test_a_stopped_key_refuses_other_operations(
    store: DirectoryStore,
    state: KeyState,
    operation: Callable[[DirectoryStore, str], Awaitable[object]],
    why: str,
) -> None:
    key, _ = await new_key(store)
    await set_key_state(store, key.id, state, BY)
    with pytest.raises(OperationError, match=f"^sk-gw-{key.id} {why}"):
        await operation(store, key.id)
    assert await list_keys(store) == [replace(key, state=state)]


@pytest.mark.parametrize("state", ["active", "disabled"])
async def test_an_expired_key_is_enabled_only_with_another_expiry(
    store: DirectoryStore, state: KeyState
) -> None:
    key, text = await new_key(store, lifetime=90.0)
    await set_key_state(store, key.id, state, BY)
    with pytest.raises(OperationError, match=f"^sk-gw-{key.id} expired on 20.*: change its expiry"):
        await enable(store, key.id, NOW + 90)
    await change_key(store, key.id, KeyChange(lifetime=90.0), Actor(WHO, NOW + 100))
    enabled = await enable(store, key.id, NOW + 100)
    assert key_format.verify(text, enabled, PEPPER, NOW + 100) == "ok"


async def test_the_expiry_of_a_replaced_key_changes_nothing_after_its_grace(
    store: DirectoryStore,
) -> None:
    key, _ = await new_key(store)
    await rotate(store, key.id, grace=60)
    await change_key(store, key.id, KeyChange(lifetime=90.0), Actor(WHO, NOW + 59))
    for lifetime in (90.0, None):
        with pytest.raises(OperationError, match=f"^sk-gw-{key.id} was replaced and expired on 20"):
            await change_key(store, key.id, KeyChange(lifetime=lifetime), Actor(WHO, NOW + 60))
    await change_key(store, key.id, KeyChange(name="Old shop"), Actor(WHO, NOW + 60))


# -- rotating and changing keys -----------------------------------------------------------------


async def test_a_successor_has_the_limits_and_lifetime(store: DirectoryStore) -> None:
    limits = Limits(images_per_day=3, cost_per_month=1_500_000)
    old, old_text = await new_key(store, lifetime=90.0, limits=limits)
    done = await rotate(store, f"sk-gw-{old.id}", grace=20, now=NOW + 30)
    new = done.new
    assert done.old == replace(old, grace_ends=NOW + 50)
    assert new.id != old.id
    assert (new.team, new.name, new.limits, new.line) == ("design", "Web shop", limits, old.id)
    assert (new.created, new.expires, new.grace_ends) == (NOW + 30, NOW + 120, None)
    assert {key.id: key for key in await list_keys(store)} == {old.id: done.old, new.id: new}
    for now, verdict in ((NOW + 30, "ok"), (NOW + 49, "ok"), (NOW + 50, "invalid")):
        assert key_format.verify(old_text, done.old, PEPPER, now) == verdict
        assert key_format.verify(done.text, new, PEPPER, now) == "ok"


@pytest.mark.parametrize(
    ("grace", "now", "ends", "in_full"),
    [(1000, NOW, NOW + 90, False), (0, NOW, NOW, True), (60, NOW + 100, NOW + 90, False)],
    ids=["never outlasts the key", "none", "of an expired key"],
)
async def test_the_old_key_ends_with_its_grace_or_its_own_time(
    store: DirectoryStore, grace: float, now: float, ends: float, in_full: bool
) -> None:
    old, text = await new_key(store, lifetime=90.0)
    done = await rotate(store, old.id, grace=grace, now=now)
    assert (done.old.ends, done.grace_in_full) == (ends, in_full)
    assert key_format.verify(text, done.old, PEPPER, max(now, ends)) == "invalid"
    assert (done.new.line, done.new.expires) == (old.id, now + 90)


async def test_a_key_may_be_rotated_again_and_its_new_one_too(store: DirectoryStore) -> None:
    old, _ = await new_key(store, lifetime=90.0)
    lost = await rotate(store, old.id)
    again = await rotate(store, old.id, grace=80, now=NOW + 10)
    assert again.old.grace_ends == lost.old.grace_ends == NOW + 60
    assert (lost.grace_in_full, again.grace_in_full) == (True, False)
    assert again.new.expires == NOW + 100
    last = await rotate(store, again.new.id, now=NOW + 20)
    assert last.old == replace(again.new, grace_ends=NOW + 80)
    lines = {key.line for key in (lost.new, again.new, last.new)}
    assert lines == {old.id}
    assert len(await list_keys(store)) == 4


async def test_a_change_of_a_key_keeps_the_other_fields(
    store: DirectoryStore, audit: AuditStore
) -> None:
    limits = Limits(images_per_day=3, cost_per_month=1_500_000)
    key, text = await new_key(store, lifetime=90.0, limits=limits)
    for wanted, differs in (
        (KeyChange(), {}),
        (KeyChange(name="Shop"), {"name": "Shop"}),
        (KeyChange(lifetime=20.0), {"expires": NOW + 80}),
        (KeyChange(lifetime=None), {"expires": None}),
        (
            KeyChange(limits={"images_per_day": None, "images_per_month": 7}),
            {"limits": Limits(images_per_month=7, cost_per_month=1_500_000)},
        ),
    ):
        key = replace(key, **differs)
        changed = await change_key(store, f"sk-gw-{key.id}", wanted, Actor(WHO, NOW + 60))
        assert changed == key == (await list_keys(store))[0]
        assert key_format.verify(text, changed, PEPPER, NOW) == "ok"
    changes = [entry for entry in await audit.entries(None, None) if entry.action == "key.change"]
    assert len(changes) == 4
    assert (changes[-1].before or {})["name"] == "Web shop" != (changes[-1].after or {})["name"]


async def test_the_limits_of_a_line_are_changed_together(store: DirectoryStore) -> None:
    old, _ = await new_key(store, limits=Limits(images_per_day=3))
    lost = (await rotate(store, old.id)).new
    new = (await rotate(store, old.id)).new
    other, _ = await new_key(store, limits=Limits(images_per_day=3))
    await set_key_state(store, lost.id, "revoked", BY)
    await change_key(store, new.id, KeyChange(name="New", limits={"images_per_day": 9}), BY)
    found = {key.id: (key.limits.images_per_day, key.name) for key in await list_keys(store)}
    assert found == {
        old.id: (9, "Web shop"),
        new.id: (9, "New"),
        lost.id: (3, "Web shop"),
        other.id: (3, "Web shop"),
    }


async def test_the_audit_log_has_every_change_and_no_secret(
    store: DirectoryStore, audit: AuditStore
) -> None:
    await apply_teams(store, [Team(name="other")], BY)
    key, text = await new_key(store, "other")
    rotated = await rotate(store, key.id)
    await set_key_state(store, key.id, "revoked", BY)
    await change_team(store, "other", lambda before: Team(name="other"), BY)
    await change_team(store, "other", lambda before: None, BY)
    entries = (await audit.entries(None, None))[::-1]
    assert [entry.action for entry in entries] == [
        *("team.create", "key.create", "key.rotate", "key.create", "key.revoke"),
        *("team.delete", "key.revoke"),
    ]
    assert {(entry.who, entry.team, entry.at) for entry in entries} == {(WHO, "other", NOW)}
    assert (entries[2].after or {})["replaced_by"] == f"sk-gw-{rotated.new.id}" == entries[3].key
    assert text not in str(entries)
    assert "digest" not in str(entries)
