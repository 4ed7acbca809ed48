"""What an operator does with teams and keys, over the store's port, whoever asks for it.

Nothing here prints. What cannot be done is raised as Refused, in one line that never repeats a
key: somebody may have pasted a whole one in the place of an id.

Every change is decided on one reading of the directory and written only if that is still how
things stand, together with its line in the log of changes. So two who change the same at once
cannot undo each other's work unseen, and the log tells exactly what was before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.errors import StoreUnavailable
from gateway.core.faults import shown
from gateway.core.key_format import public_id
from gateway.core.model import NO_LIMITS, AuditEntry, Key, KeyState, Limits, Team
from gateway.core.periods import utc
from gateway.core.redaction import scrub
from gateway.tenants.store import DirectoryChanges, DirectoryStore, DirectoryWrite
from gateway.tenants.views import has_expired, key_listing, team_listing

T = TypeVar("T")

ATTEMPTS = 20
"""How often a change is decided anew because somebody else was quicker."""


class Refused(Exception):
    """Why an operation was not done, in one line for whoever asked for it."""


class Missing(Refused):
    """There is no such team or key."""


class Conflict(Refused):
    """What was asked for does not go with how things stand."""


class Changed(Refused):
    """Somebody changed it since whoever asks looked at it."""


class Actor(Struct, frozen=True):
    """Who changes something, for the log of changes, and when: seconds since the epoch."""

    who: str
    now: float


class Applied(Struct, frozen=True, kw_only=True):
    """What applying a file of teams did to each. `left_alone` stand in the store only."""

    created: list[str]
    replaced: list[str]
    unchanged: list[str]
    left_alone: list[str]


# -- teams --------------------------------------------------------------------------------------


async def apply_teams(store: DirectoryStore, teams: Sequence[Team], by: Actor) -> Applied:
    """Create these teams or replace them whole, all or none. Raises StoreUnavailable."""

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Applied]:
        known = _living(directory)
        kept = [_with_purges(directory, team) for team in teams]
        changed = [team for team in kept if known.get(team.name) != team]
        named = {team.name for team in teams}
        applied = Applied(
            created=[team.name for team in changed if team.name not in known],
            replaced=[team.name for team in changed if team.name in known],
            unchanged=[team.name for team in kept if team not in changed],
            left_alone=sorted(known.keys() - named),
        )
        audit = [_team_entry(by, team.name, known.get(team.name), team) for team in changed]
        return DirectoryWrite(teams=changed, audit=audit), applied

    return await _change(store, decide)


async def list_teams(store: DirectoryStore) -> list[Team]:
    """All teams by name. Raises StoreUnavailable."""
    return sorted(_living(await store.changes(0)).values(), key=lambda team: team.name)


async def find_team(store: DirectoryStore, name: str) -> Team:
    """The team of this name. Raises Missing, StoreUnavailable."""
    return _team(_living(await store.changes(0)), name)


async def check_team(store: DirectoryStore, name: str | None) -> None:
    """Raise Missing where there never was a team of this name; one that was deleted has a history.

    None stands for all teams. Raises StoreUnavailable.
    """
    if name is None:
        return
    directory = await store.changes(0)
    if name not in {team.name for team in directory.teams}:
        raise Missing(_no_team(name, _living(directory)))


async def change_team(
    store: DirectoryStore,
    name: str,
    change: Callable[[Team | None], Team | None],
    by: Actor,
) -> tuple[Team | None, Team | None]:
    """Put what `change` makes of a team into its place; give the team before and after.

    It is called with the team as it stands, None where there is none, and may be called again;
    None from it deletes the team: its keys are revoked, its history and what it has used up
    stay. Raises what `change` raises, StoreUnavailable.
    """

    def decide(
        directory: DirectoryChanges,
    ) -> tuple[DirectoryWrite, tuple[Team | None, Team | None]]:
        before = _living(directory).get(name)
        after = change(before)
        if after == before:
            return DirectoryWrite(), (before, after)
        if after is None:
            return _deletion(directory, name, by), (before, None)
        after = _with_purges(directory, after)
        return DirectoryWrite(teams=[after], audit=[_team_entry(by, name, before, after)]), (
            before,
            after,
        )

    return await _change(store, decide)


def _deletion(directory: DirectoryChanges, name: str, by: Actor) -> DirectoryWrite:
    """What is left of a team: its name, and its keys, which are revoked."""
    team = _living(directory)[name]
    working = [key for key in directory.keys if key.team == name and key.state != "revoked"]
    revoked = [replace(key, state="revoked") for key in working]
    entries = [_key_entry(by, "key.revoke", *pair) for pair in zip(working, revoked, strict=True)]
    gone = Team(name=name, deleted=True, purged=team.purged)
    return DirectoryWrite(
        teams=[gone], keys=revoked, audit=[_team_entry(by, name, team, None), *entries]
    )


async def purge_teams(store: DirectoryStore, names: Sequence[str] | None, by: Actor) -> None:
    """Empty the cache of these teams, or of all (None), on every gateway within a second.

    Their answers are kept under other names from then on; the former are never found again and
    leave as their time ends or their room is needed. Raises Missing, StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, None]:
        known = _living(directory)
        teams = [_team(known, name) for name in (known if names is None else names)]
        purged = [replace(team, purged=team.purged + 1) for team in teams]
        entry = AuditEntry(at=by.now, who=by.who, action="cache.purge")
        all_of_it = [replace(entry, after={"all": True})]
        audit = all_of_it if names is None else [replace(entry, team=name) for name in names]
        return DirectoryWrite(teams=purged, audit=audit), None

    await _change(store, decide)


async def note_purge(store: DirectoryStore, fingerprint: str, by: Actor) -> None:
    """Log that one answer was taken out of the cache. Raises StoreUnavailable."""
    audit = [
        AuditEntry(at=by.now, who=by.who, action="cache.purge", after={"fingerprint": fingerprint})
    ]
    await _change(store, lambda directory: (DirectoryWrite(audit=audit), None))


def _with_purges(directory: DirectoryChanges, team: Team) -> Team:
    """The team with the count of the one of its name: what was purged must not come back."""
    for known in directory.teams:
        if known.name == team.name:
            return replace(team, purged=known.purged)
    return team


# -- keys ---------------------------------------------------------------------------------------


async def create_key(
    store: DirectoryStore,
    *,
    team: str,
    name: str,
    lifetime: float | None,
    pepper: bytes,
    by: Actor,
    entropy: Callable[[int], bytes],
    limits: Limits = NO_LIMITS,
) -> tuple[Key, str]:
    """A new key and its text, which nothing but this answer ever holds.

    `lifetime` is in seconds, None for ever. Raises Missing for an unknown team, StoreUnavailable
    (then the key may have been made, and nobody has it).
    """
    id, text = key_format.mint(entropy)
    key = Key(
        id=id,
        team=team,
        name=name,
        digest=key_format.digest(text, pepper),
        created=by.now,
        expires=None if lifetime is None else by.now + lifetime,
        limits=limits,
    )

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, None]:
        _team(_living(directory), team)
        audit = [_key_entry(by, "key.create", None, key)]
        return DirectoryWrite(keys=[key], audit=audit), None

    await _change(store, decide)
    return key, text


class KeyChange(Struct, frozen=True, kw_only=True):
    """What is to be changed of a key; what is left out stays.

    `lifetime` is in seconds from now on, None for ever. `limits` go by their names in `Limits`.
    """

    name: str | None = None
    lifetime: float | UnsetType | None = UNSET
    limits: Mapping[str, int | None] = {}


async def change_key(store: DirectoryStore, id: str, wanted: KeyChange, by: Actor) -> Key:
    """Change a key that is not revoked, and give it as it is now.

    The keys of a line share their limits: those of the others are changed too. What a key used
    while it had no limit of its own is not counted under the first one.

    Raises Refused where there is no such key or it is revoked, StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Key]:
        before = _find(directory, id)
        if before.state == "revoked":
            raise _revoked(before)
        after = _changed(before, wanted, by.now)
        others = [
            (key, replace(key, limits=after.limits))
            for key in directory.keys
            if key.line == after.line and key.id != after.id and key.state != "revoked"
        ]
        pairs = [(old, new) for old, new in [(before, after), *others] if old != new]
        audit = [_key_entry(by, "key.change", old, new) for old, new in pairs]
        return DirectoryWrite(keys=[new for _, new in pairs], audit=audit), after

    return await _change(store, decide)


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
    """What a rotation came to: both keys as they are now, and the new one's text.

    `grace_in_full` is whether the old key works as long as was asked. It does not where it ends
    sooner by itself, or was replaced before with a grace that ends sooner.
    """

    old: Key
    new: Key
    text: str
    grace_in_full: bool


async def rotate_key(
    store: DirectoryStore,
    id: str,
    *,
    grace: float,
    pepper: bytes,
    by: Actor,
    entropy: Callable[[int], bytes],
) -> Rotated:
    """Replace a key: the old one works `grace` seconds more, but never past its own time.

    The new key has an id of its own, so that logs and lists tell which one is still in use and
    each can be revoked alone. It has the old one's name, limits and length of life, and is of the
    same line: they share budgets and history. A key may be replaced more than once, because the
    text of a new one may get lost; its end only comes nearer.

    Raises Refused where there is no such key or it is not active, StoreUnavailable (then it may
    have been replaced, and nobody has the new one).
    """
    new_id, text = key_format.mint(entropy)

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Rotated]:
        before = _find(directory, id)
        _require_active(before)
        new = _successor(before, new_id, key_format.digest(text, pepper), by.now)
        ends = [by.now + grace, before.expires, before.grace_ends]
        old = replace(before, grace_ends=min(end for end in ends if end is not None))
        audit = [_rotation_entry(by, before, old, new), _key_entry(by, "key.create", None, new)]
        done = Rotated(old, new, text, grace_in_full=old.grace_ends == by.now + grace)
        return DirectoryWrite(keys=[old, new], audit=audit), done

    return await _change(store, decide)


def _successor(old: Key, id: str, digest: bytes, now: float) -> Key:
    return Key(
        id=id,
        team=old.team,
        name=old.name,
        digest=digest,
        created=now,
        expires=None if old.expires is None else now + (old.expires - old.created),
        limits=old.limits,
        first=old.line,
    )


async def list_keys(store: DirectoryStore, team: str | None = None) -> list[Key]:
    """All keys or those of one team: by team, the oldest first.

    Raises Missing for an unknown team, StoreUnavailable.
    """
    known = await store.changes(0)
    if team is not None:
        _team(_living(known), team)
    found = [key for key in known.keys if team in (None, key.team)]
    return sorted(found, key=lambda key: (key.team, key.created, key.id))


async def find_key(store: DirectoryStore, id: str) -> Key:
    """The key of this id, in any of its forms. Raises Missing, StoreUnavailable."""
    return _find(await store.changes(0), id)


async def set_key_state(store: DirectoryStore, id: str, state: KeyState, by: Actor) -> Key:
    """Set a key's state and give the key as it is now; `id` is whatever `normal_id` understands.

    Raises Refused where there is no such key, it is revoked already and for good, or it is to work
    again and its time is over; StoreUnavailable.
    """

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Key]:
        before = _find(directory, id)
        if before.state == "revoked" != state:
            raise _revoked(before)
        if state == "active" and has_expired(before, by.now):
            raise _expired(before, by.now)
        if before.state == state:
            return DirectoryWrite(), before
        after = replace(before, state=state)
        audit = [_key_entry(by, _STATE_ACTIONS[state], before, after)]
        return DirectoryWrite(keys=[after], audit=audit), after

    return await _change(store, decide)


_STATE_ACTIONS = {"active": "key.enable", "disabled": "key.disable", "revoked": "key.revoke"}


# -- the log of changes -------------------------------------------------------------------------


async def _change(
    store: DirectoryStore, decide: Callable[[DirectoryChanges], tuple[DirectoryWrite, T]]
) -> T:
    """Write what `decide` makes of the directory, on a reading that nobody overtook."""
    for _ in range(ATTEMPTS):
        directory = await store.changes(0)
        write, outcome = decide(directory)
        if not (write.teams or write.keys or write.audit):
            return outcome
        if await store.commit(directory.generation, write):
            return outcome
    raise StoreUnavailable


def _team_entry(by: Actor, name: str, before: Team | None, after: Team | None) -> AuditEntry:
    action = "team.create" if before is None else "team.delete" if after is None else "team.change"
    return AuditEntry(
        at=by.now,
        who=by.who,
        action=action,
        team=name,
        before=None if before is None else team_listing(before),
        after=None if after is None else team_listing(after),
    )


def _key_entry(by: Actor, action: str, before: Key | None, after: Key) -> AuditEntry:
    return AuditEntry(
        at=by.now,
        who=by.who,
        action=action,
        team=after.team,
        key=public_id(after.id),
        before=None if before is None else key_listing(before, by.now, None),
        after=key_listing(after, by.now, None),
    )


def _rotation_entry(by: Actor, before: Key, old: Key, new: Key) -> AuditEntry:
    """That of a key that was replaced tells by which one."""
    entry = _key_entry(by, "key.rotate", before, old)
    return replace(entry, after={**(entry.after or {}), "replaced_by": public_id(new.id)})


# -- what there is ------------------------------------------------------------------------------


def _living(directory: DirectoryChanges) -> dict[str, Team]:
    return {team.name: team for team in directory.teams if not team.deleted}


def _find(directory: DirectoryChanges, id: str) -> Key:
    id = key_format.normal_id(id)
    for key in directory.keys:
        if key.id == id:
            return key
    raise Missing("There is no key with this id: 'gateway keys list' shows them all.")


def _require_active(key: Key) -> None:
    if key.state == "revoked":
        raise _revoked(key)
    if key.state == "disabled":
        raise Conflict(
            f"{key_format.PREFIX}{key.id} is disabled: enable it first, or create a new key."
        )


def _revoked(key: Key) -> Refused:
    return Conflict(f"{key_format.PREFIX}{key.id} is revoked, which is for good: create a new key.")


def _expired(key: Key, now: float) -> Refused:
    replaced = key.grace_ends is not None and key.grace_ends <= now
    way = "" if replaced else "change when it expires first, or "
    return Conflict(f"{public_id(key.id)} expired on {utc(key.ends or 0)}: {way}create a new key.")


def _team(known: dict[str, Team], name: str) -> Team:
    if name in known:
        return known[name]
    raise Missing(_no_team(name, known))


def _no_team(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    if not known:
        return "There are no teams yet: bring them in with 'gateway teams apply FILE'."
    name = scrub(name.encode(), ()).decode()
    return f"There is no team {shown(name)}. The teams are {', '.join(known)}."
