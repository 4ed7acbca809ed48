"""What an operator does with teams and keys, over a real store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.listing import Listing, listing
from gateway.core.model import NO_LIMITS, Key, KeyState, Limits, Team
from gateway.stores.sqlite import SqliteStore
from gateway.tenants.changes import Actor, Conflict, OperationError, UnknownName
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


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "gateway.db") as opened:
        yield opened


@pytest.fixture
def store(opened: SqliteStore) -> DirectoryStore:
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
    return await create_key(
        store,
        team=team,
        name="Web shop",
        lifetime=lifetime,
        pepper=PEPPER,
        by=Actor(WHO, now),
        limits=limits,
    )


async def rotate(store: DirectoryStore, id: str, grace: float = 60.0, now: float = NOW) -> Rotated:
    return await rotate_key(store, id, grace=grace, pepper=PEPPER, by=Actor(WHO, now))


async def test_applying_tells_what_became_of_each_team(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="same"), Team(name="other"), Team(name="design", max_n=3)])
    design = Team(name="design", limits=Limits(images_per_day=5))
    applied = await apply_teams(store, [Team(name="new"), design, Team(name="same")], BY)
    assert applied == Applied(
        created=["new"], replaced=["design"], unchanged=["same"], left_alone=["other"]
    )
    assert {team.name: team for team in await list_teams(store)}["design"] == design


async def test_applying_what_is_there_writes_nothing(store: DirectoryStore) -> None:
    team = Team(
        name="design",
        models=("gpt-image-2",),
        sizes=("1024x1024",),
        limits=Limits(cost_per_day=1_500_000),
    )
    await apply_teams(store, [team], BY)
    generation = (await store.changes(0)).generation
    assert (await apply_teams(store, [team], BY)).unchanged == ["design"]
    assert (await store.changes(0)).generation == generation


async def test_a_key_that_was_made_is_the_one_in_the_store(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="design")])
    key, text = await new_key(store, lifetime=90.0)
    assert (await store.changes(0)).keys == [key]
    assert key.expires == NOW + 90
    assert key_format.verify(text, key, PEPPER, NOW) == "ok"


async def test_an_unknown_team_is_told_with_those_there_are(store: DirectoryStore) -> None:
    with pytest.raises(OperationError, match="There are no teams yet"):
        await new_key(store)
    await put_teams(store, [Team(name="research"), Team(name="design")])
    with pytest.raises(OperationError) as refused:
        await new_key(store, "desing")
    assert str(refused.value) == "There is no team desing. The teams are design, research."
    with pytest.raises(OperationError, match="There is no team sales"):
        await list_keys(store, "sales")
    assert (await store.changes(0)).keys == []


async def test_teams_are_listed_by_name_and_keys_by_team_and_age(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="b"), Team(name="a")])
    assert [team.name for team in await list_teams(store)] == ["a", "b"]
    late, _ = await new_key(store, "b", now=NOW + 1)
    early, _ = await new_key(store, "b")
    first, _ = await new_key(store, "a", now=NOW + 2)
    assert await list_keys(store) == [first, early, late]
    assert await list_keys(store, "a") == [first]


@pytest.mark.parametrize("written", ["{id}", "sk-gw-{id}", " sk-gw-{id}\n", "{text}"])
async def test_a_key_is_meant_by_its_id_or_by_a_whole_key(
    store: DirectoryStore, written: str
) -> None:
    await put_teams(store, [Team(name="design")])
    key, text = await new_key(store)
    changed = await set_key_state(store, written.format(id=key.id, text=text), "disabled", BY)
    assert (changed.id, changed.state) == (key.id, "disabled")
    assert (await set_key_state(store, key.id, "active", BY)).state == "active"


async def test_a_revoked_key_stays_revoked(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="design")])
    key, _ = await new_key(store)
    await set_key_state(store, key.id, "revoked", BY)
    for state in ("active", "disabled"):
        with pytest.raises(OperationError, match=f"sk-gw-{key.id} is revoked, which is final"):
            await set_key_state(store, key.id, state, BY)
    assert (await set_key_state(store, key.id, "revoked", BY)).state == "revoked"


@pytest.mark.parametrize(
    "written", ["", "0123456789ab", "sk-proj-abcdefgh", "sk-gw-", "_", "\udcff"]
)
async def test_an_unknown_id_is_not_repeated(store: DirectoryStore, written: str) -> None:
    with pytest.raises(OperationError) as refused:
        await set_key_state(store, written, "revoked", BY)
    assert str(refused.value) == (
        "There is no key with this id. 'gateway keys list' shows all keys."
    )


# -- rotating -----------------------------------------------------------------------------------


async def test_a_rotated_key_is_replaced_by_its_like(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="design")])
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
    await put_teams(store, [Team(name="design")])
    old, text = await new_key(store, lifetime=90.0)
    done = await rotate(store, old.id, grace=grace, now=now)
    assert (done.old.ends, done.grace_in_full) == (ends, in_full)
    assert key_format.verify(text, done.old, PEPPER, max(now, ends)) == "invalid"
    assert (done.new.line, done.new.expires) == (old.id, now + 90)


async def test_a_key_may_be_rotated_again_and_its_new_one_too(store: DirectoryStore) -> None:
    await put_teams(store, [Team(name="design")])
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


@pytest.mark.parametrize(
    ("state", "why"),
    [("revoked", "is revoked, which is final"), ("disabled", "is disabled: enable it first")],
)
async def test_only_an_active_key_is_rotated(
    store: DirectoryStore, state: KeyState, why: str
) -> None:
    await put_teams(store, [Team(name="design")])
    old, _ = await new_key(store)
    await set_key_state(store, old.id, state, BY)
    with pytest.raises(OperationError, match=f"^sk-gw-{old.id} {why}"):
        await rotate(store, old.id)
    with pytest.raises(OperationError, match="There is no key with this id"):
        await rotate(store, "0123456789ab")
    assert await list_keys(store) == [replace(old, state=state)]


async def test_only_what_is_named_of_a_key_is_changed(
    store: DirectoryStore, audit: AuditStore
) -> None:
    await put_teams(store, [Team(name="design")])
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
    await put_teams(store, [Team(name="design")])
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


async def test_an_expired_key_works_again_with_another_end_and_a_revoked_never(
    store: DirectoryStore,
) -> None:
    await put_teams(store, [Team(name="design")])
    old, text = await new_key(store, lifetime=90.0)
    later = Actor(WHO, NOW + 100)
    changed = await change_key(store, old.id, KeyChange(lifetime=90.0), later)
    assert key_format.verify(text, changed, PEPPER, NOW + 100) == "ok"
    await set_key_state(store, old.id, "revoked", BY)
    with pytest.raises(Conflict, match="is revoked, which is final"):
        await change_key(store, old.id, KeyChange(lifetime=None), later)
    with pytest.raises(UnknownName):
        await change_key(store, "0123456789ab", KeyChange(name="x"), later)


@pytest.mark.parametrize("state", ["active", "disabled"])
async def test_a_key_whose_time_is_over_is_not_enabled(
    store: DirectoryStore, state: KeyState
) -> None:
    await put_teams(store, [Team(name="design")])
    key, _ = await new_key(store, lifetime=90.0)
    await set_key_state(store, key.id, state, BY)
    with pytest.raises(Conflict, match=f"^sk-gw-{key.id} expired on 20.*: change its expiry"):
        await set_key_state(store, key.id, "active", replace(BY, now=NOW + 90))
    assert (await set_key_state(store, key.id, "active", BY)).state == "active"


async def test_a_deleted_team_is_gone_with_its_keys_and_can_come_back(
    store: DirectoryStore,
) -> None:
    team = Team(name="design", max_n=2)
    await apply_teams(store, [team, Team(name="other")], BY)
    key, _ = await new_key(store)
    other, _ = await new_key(store, "other")
    assert await change_team(store, "design", lambda before: None, BY) == TeamChange(
        before=listing(team), after=None
    )
    assert [left.name for left in await list_teams(store)] == ["other"]
    with pytest.raises(UnknownName, match="There is no team design"):
        await new_key(store)
    states = {key.id: key.state for key in (await store.changes(0)).keys}
    assert states == {key.id: "revoked", other.id: "active"}
    assert (await apply_teams(store, [team], BY)).created == ["design"]
    assert (await list_keys(store, "design"))[0].state == "revoked"


async def test_who_changed_what_is_on_record_without_a_secret(
    store: DirectoryStore, audit: AuditStore
) -> None:
    await apply_teams(store, [Team(name="design")], BY)
    key, text = await new_key(store)
    rotated = await rotate(store, key.id)
    await set_key_state(store, key.id, "revoked", BY)
    await change_team(store, "design", lambda before: Team(name="design"), BY)
    await change_team(store, "design", lambda before: None, BY)
    entries = (await audit.entries(None, None))[::-1]
    assert [entry.action for entry in entries] == [
        *("team.create", "key.create", "key.rotate", "key.create", "key.revoke"),
        *("team.delete", "key.revoke"),
    ]
    assert {(entry.who, entry.team, entry.at) for entry in entries} == {(WHO, "design", NOW)}
    assert (entries[2].after or {})["replaced_by"] == f"sk-gw-{rotated.new.id}" == entries[3].key
    assert text not in str(entries)
    assert "digest" not in str(entries)


async def test_two_who_change_at_once_both_see_what_the_other_did(store: DirectoryStore) -> None:
    await apply_teams(store, [Team(name="design", max_n=1)], BY)

    def raised(team: Listing | None) -> Team:
        assert team is not None
        return Team(name="design", max_n=(team["max_n"] or 0) + 1)

    await asyncio.gather(*(change_team(store, "design", raised, BY) for _ in range(5)))
    assert (await list_teams(store))[0].max_n == 6
