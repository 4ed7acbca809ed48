"""Operations on teams and keys, the same for the command line and the admin API.

They print nothing. An operation that cannot be done raises OperationError.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.key_format import public_id
from gateway.core.listing import Listing, listing
from gateway.core.model import NO_LIMITS, Key, KeyState, Limits, Team
from gateway.core.periods import utc
from gateway.tenants.changes import (
    Actor,
    OperationError,
    commit,
    key_entry,
    key_of,
    key_write,
    rotation_entry,
    team_entry,
    team_of,
    teams_of,
    unknown_team,
)
from gateway.tenants.store import DirectoryChanges, DirectoryStore, DirectoryWrite
from gateway.tenants.views import has_expired


class Applied(Struct, frozen=True, kw_only=True):
    """The result of applying a file: the names of teams. The file lacks those `left_alone`."""

    created: list[str]
    replaced: list[str]
    unchanged: list[str]
    left_alone: list[str]


class TeamChange(Struct, frozen=True, kw_only=True):
    """A team in its public form, before and after a change; None where there is none."""

    before: Listing | None
    after: Listing | None


# -- teams --------------------------------------------------------------------------------------


async def apply_teams(store: DirectoryStore, teams: Sequence[Team], by: Actor) -> Applied:
    """Create these teams or replace them whole, all or none. Raises StoreUnavailable."""

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Applied]:
        known = teams_of(directory)
        wanted = [_with_purges(directory, team) for team in teams]
        changed = [team for team in wanted if known.get(team.name) != team]
        applied = Applied(
            created=[team.name for team in changed if team.name not in known],
            replaced=[team.name for team in changed if team.name in known],
            unchanged=[team.name for team in wanted if team not in changed],
            left_alone=sorted(known.keys() - {team.name for team in teams}),
        )
        audit = [
            team_entry(by, team.name, _view(known.get(team.name)), listing(team))
            for team in changed
        ]
        return DirectoryWrite(teams=changed, audit=audit), applied

    return await commit(store, decide)


async def list_teams(store: DirectoryStore) -> list[Team]:
    """Return all teams by name. Raises StoreUnavailable."""
    return sorted(teams_of(await store.changes(0)).values(), key=lambda team: team.name)


async def find_team(store: DirectoryStore, name: str) -> Team:
    """Return the team of this name. Raises UnknownName, StoreUnavailable."""
    return team_of(teams_of(await store.changes(0)), name)


async def check_team(store: DirectoryStore, name: str | None) -> None:
    """Raise UnknownName if there never was such a team. None stands for all teams.

    A deleted team passes, because its history stays. Raises StoreUnavailable.
    """
    if name is None:
        return
    directory = await store.changes(0)
    if name not in {team.name for team in directory.teams}:
        raise unknown_team(name, teams_of(directory))


async def change_team(
    store: DirectoryStore, name: str, change: Callable[[Listing | None], Team | None], by: Actor
) -> TeamChange:
    """Replace a team by what `change` returns for it.

    `change` gets the team in its public form, None where there is none; it may be called again. If
    it returns None, the team is deleted: its keys are revoked, its history and its usage stay.
    Raises what `change` raises, and StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, TeamChange]:
        known = teams_of(directory).get(name)
        before = _view(known)
        wanted = change(before)
        if wanted is None:
            deletion = _deletion(directory, known, by) if known else DirectoryWrite()
            return deletion, TeamChange(before=before, after=None)
        wanted = _with_purges(directory, wanted)
        done = TeamChange(before=before, after=listing(wanted))
        if wanted == known:
            return DirectoryWrite(), done
        audit = [team_entry(by, name, before, done.after)]
        return DirectoryWrite(teams=[wanted], audit=audit), done

    return await commit(store, decide)


def _view(team: Team | None) -> Listing | None:
    return None if team is None else listing(team)


def _deletion(directory: DirectoryChanges, team: Team, by: Actor) -> DirectoryWrite:
    """Keep a deleted team's name, for its history, revoke its keys, and purge its answers.

    A new team of the same name finds none of them.
    """
    working = [key for key in directory.keys if key.team == team.name and key.state != "revoked"]
    revoked = key_write(
        by, *(("key.revoke", key, replace(key, state="revoked")) for key in working)
    )
    deleted = Team(name=team.name, deleted=True, purged=team.purged + 1)
    audit = [team_entry(by, team.name, listing(team), None), *revoked.audit]
    return DirectoryWrite(teams=[deleted], keys=revoked.keys, audit=audit)


async def purge_teams(store: DirectoryStore, names: Sequence[str] | None, by: Actor) -> None:
    """Empty the cache of these teams, or of all (None), on every gateway within a second.

    From then on their answers are cached under other names. Nobody finds the old ones again; they
    leave the cache when they expire or when it needs room. Raises UnknownName, StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, None]:
        known = teams_of(directory)
        teams = [team_of(known, name) for name in (known if names is None else names)]
        purged = [replace(team, purged=team.purged + 1) for team in teams]
        if names is None:
            audit = [by.entry("cache.purge", after={"all": True})]
        else:
            audit = [by.entry("cache.purge", team=name) for name in names]
        return DirectoryWrite(teams=purged, audit=audit), None

    await commit(store, decide)


async def note_purge(store: DirectoryStore, fingerprint: str, by: Actor) -> None:
    """Log that one answer was removed from the cache. Raises StoreUnavailable."""
    audit = [by.entry("cache.purge", after={"fingerprint": fingerprint})]
    await commit(store, lambda directory: (DirectoryWrite(audit=audit), None))


def _with_purges(directory: DirectoryChanges, team: Team) -> Team:
    """Keep the purge count of the name, also of a deleted team: purged answers must not return."""
    purged = {known.name: known.purged for known in directory.teams}
    return replace(team, purged=purged.get(team.name, team.purged))


# -- keys ---------------------------------------------------------------------------------------


async def create_key(
    store: DirectoryStore,
    *,
    team: str,
    name: str,
    lifetime: float | None,
    pepper: bytes,
    by: Actor,
    limits: Limits = NO_LIMITS,
) -> tuple[Key, str]:
    """Create a key and return it with its text, which exists nowhere else.

    `lifetime` is in seconds, None for no expiry. Raises UnknownName for an unknown team, and
    StoreUnavailable: then the key may have been created, but nobody has its text.
    """
    key, text = _new_key(pepper, by.now, lifetime, team=team, name=name, limits=limits)

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, None]:
        team_of(teams_of(directory), team)
        return key_write(by, ("key.create", None, key)), None

    await commit(store, decide)
    return key, text


def _new_key(pepper: bytes, now: float, lifetime: float | None, **fields: Any) -> tuple[Key, str]:
    """Return a key with these further fields, and its text."""
    id, text = key_format.mint(secrets.token_bytes)
    digest = key_format.digest(text, pepper)
    expires = None if lifetime is None else now + lifetime
    return Key(id=id, digest=digest, created=now, expires=expires, **fields), text


class KeyChange(Struct, frozen=True, kw_only=True):
    """Changes to a key; fields that are left out stay.

    `lifetime` is in seconds from now, None for no expiry. `limits` have their names in `Limits`.
    """

    name: str | None = None
    lifetime: float | UnsetType | None = UNSET
    limits: Mapping[str, int | None] = {}


async def change_key(store: DirectoryStore, id: str, wanted: KeyChange, by: Actor) -> Key:
    """Change a key that is not revoked, and return it.

    The keys of a line share their limits, so the limits of the others change too. The first limit
    of a key does not count its earlier usage.

    Raises OperationError for an unknown or revoked key, and for a new expiry of a replaced key
    whose grace is over. Raises StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Key]:
        before = key_of(directory, id)
        _refuse_revoked(before)
        if wanted.lifetime is not UNSET and _is_replaced(before, by.now):
            raise _expired(before, by.now)
        after = _changed(before, wanted, by.now)
        others = [
            (key, replace(key, limits=after.limits))
            for key in directory.keys
            if key.line == after.line and key.id != after.id and key.state != "revoked"
        ]
        pairs = [("key.change", old, new) for old, new in [(before, after), *others] if old != new]
        return key_write(by, *pairs), after

    return await commit(store, decide)


def _changed(key: Key, wanted: KeyChange, now: float) -> Key:
    ends = key.expires
    if not isinstance(wanted.lifetime, UnsetType):
        ends = None if wanted.lifetime is None else now + wanted.lifetime
    return replace(
        key,
        name=key.name if wanted.name is None else wanted.name,
        expires=ends,
        limits=replace(key.limits, **wanted.limits),
    )


class Rotated(Struct, frozen=True):
    """Both keys after a rotation, and the text of the new one.

    `grace_in_full` is false if the old key stops before the grace is over: because it expires
    earlier, or because an earlier rotation's grace ends earlier.
    """

    old: Key
    new: Key
    text: str
    grace_in_full: bool


async def rotate_key(
    store: DirectoryStore, id: str, *, grace: float, pepper: bytes, by: Actor
) -> Rotated:
    """Replace a key. The old one works `grace` seconds more, but never past its own expiry.

    The new key has its own id, so that logs and lists show which key is in use and each can be
    revoked alone. It takes over the old key's name, limits and lifetime, and belongs to the same
    line: both share budgets and history. A key may be replaced again, because the text of a new
    key can get lost; that only brings the end of the old one nearer.

    Raises OperationError for a key that is unknown or not active, and StoreUnavailable: then the
    key may have been replaced, but nobody has the text of the new one.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Rotated]:
        before = key_of(directory, id)
        _refuse_revoked(before)
        if before.state == "disabled":
            remedy = "enable it first, or create a new key"
            raise OperationError(f"{public_id(before.id)} is disabled: {remedy}.")
        lifetime = None if before.expires is None else before.expires - before.created
        same = {"team": before.team, "name": before.name, "limits": before.limits}
        new, text = _new_key(pepper, by.now, lifetime, first=before.line, **same)
        ends = [by.now + grace, before.expires, before.grace_ends]
        old = replace(before, grace_ends=min(end for end in ends if end is not None))
        audit = [rotation_entry(by, before, old, new), key_entry(by, "key.create", None, new)]
        done = Rotated(old, new, text, grace_in_full=old.grace_ends == by.now + grace)
        return DirectoryWrite(keys=[old, new], audit=audit), done

    return await commit(store, decide)


async def list_keys(store: DirectoryStore, team: str | None = None) -> list[Key]:
    """Return all keys or those of one team, by team, the oldest first.

    Raises UnknownName for an unknown team, and StoreUnavailable.
    """
    known = await store.changes(0)
    if team is not None:
        team_of(teams_of(known), team)
    found = [key for key in known.keys if team in (None, key.team)]
    return sorted(found, key=lambda key: (key.team, key.created, key.id))


async def find_key(store: DirectoryStore, id: str) -> Key:
    """Return the key of this id, in any form. Raises UnknownName, StoreUnavailable."""
    return key_of(await store.changes(0), id)


async def set_key_state(store: DirectoryStore, id: str, state: KeyState, by: Actor) -> Key:
    """Set a key's state and return the key; `id` has any form that `normal_id` reads.

    Raises OperationError for an unknown or revoked key, or to enable an expired one, and
    StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Key]:
        before = key_of(directory, id)
        if state != "revoked":
            _refuse_revoked(before)
        if state == "active" and has_expired(before, by.now):
            raise _expired(before, by.now)
        if before.state == state:
            return DirectoryWrite(), before
        after = replace(before, state=state)
        return key_write(by, (_STATE_ACTIONS[state], before, after)), after

    return await commit(store, decide)


_STATE_ACTIONS = {"active": "key.enable", "disabled": "key.disable", "revoked": "key.revoke"}


def _refuse_revoked(key: Key) -> None:
    if key.state == "revoked":
        raise OperationError(f"{public_id(key.id)} is revoked, which is final: create a new key.")


def _is_replaced(key: Key, now: float) -> bool:
    """Whether another key replaced this one, and its grace is over."""
    return key.grace_ends is not None and key.grace_ends <= now


def _expired(key: Key, now: float) -> OperationError:
    id, ended = public_id(key.id), utc(key.ends or 0)
    if _is_replaced(key, now):
        return OperationError(f"{id} was replaced and expired on {ended}: create a new key.")
    return OperationError(f"{id} expired on {ended}: change its expiry first, or create a new key.")
