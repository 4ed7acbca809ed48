"""What an operator does with teams and keys, over the store's port, whoever asks for it.

Nothing here prints. What cannot be done is raised as Refused, in one line that never repeats a
key: somebody may have pasted a whole one in the place of an id.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from gateway.model import NO_LIMITS, Key, KeyState, Limits, Team
from gateway.ports import DirectoryStore
from gateway.rules import keys
from gateway.rules.config_faults import shown
from gateway.rules.scrub import scrub


class Refused(Exception):
    """Why an operation was not done, in one line for whoever asked for it."""


class Applied(Struct, frozen=True, kw_only=True):
    """What applying a file of teams did to each. `left_alone` stand in the store only."""

    created: list[str]
    replaced: list[str]
    unchanged: list[str]
    left_alone: list[str]


async def apply_teams(store: DirectoryStore, teams: Sequence[Team]) -> Applied:
    """Create these teams or replace them whole, all or none. Raises StoreUnavailable."""
    known = {team.name: team for team in (await store.changes(0)).teams}
    changed = [team for team in teams if known.get(team.name) != team]
    if changed:
        await store.put_teams(changed)
    named = {team.name for team in teams}
    return Applied(
        created=[team.name for team in changed if team.name not in known],
        replaced=[team.name for team in changed if team.name in known],
        unchanged=[team.name for team in teams if team not in changed],
        left_alone=sorted(known.keys() - named),
    )


async def list_teams(store: DirectoryStore) -> list[Team]:
    """All teams by name. Raises StoreUnavailable."""
    return sorted((await store.changes(0)).teams, key=lambda team: team.name)


# -- keys ---------------------------------------------------------------------------------------


async def create_key(
    store: DirectoryStore,
    *,
    team: str,
    name: str,
    lifetime: float | None,
    pepper: bytes,
    now: float,
    entropy: Callable[[int], bytes],
    limits: Limits = NO_LIMITS,
) -> tuple[Key, str]:
    """A new key and its text, which nothing but this answer ever holds.

    `lifetime` is in seconds, None for ever. Raises Refused for an unknown team, StoreUnavailable
    (then the key may have been made, and nobody has it).
    """
    _require_team(team, (await store.changes(0)).teams)
    id, text = keys.mint(entropy)
    expires = None if lifetime is None else now + lifetime
    digest = keys.digest(text, pepper)
    key = Key(
        id=id, team=team, name=name, digest=digest, created=now, expires=expires, limits=limits
    )
    await store.put_key(key)
    return key, text


class Rotated(Struct, frozen=True):
    """What a rotation came to: both keys as they are now, and the new one's text."""

    old: Key
    new: Key
    text: str


async def rotate_key(
    store: DirectoryStore,
    id: str,
    *,
    grace: float,
    pepper: bytes,
    now: float,
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
    old = await _find(store, keys.normal_id(id))
    _require_active(old)
    new_id, text = keys.mint(entropy)
    new = Key(
        id=new_id,
        team=old.team,
        name=old.name,
        digest=keys.digest(text, pepper),
        created=now,
        expires=None if old.expires is None else now + (old.expires - old.created),
        limits=old.limits,
        first=old.line,
    )
    ends = now + grace if old.expires is None else min(now + grace, old.expires)
    replaced = await store.rotate_key(old.id, ends, new)
    old = await _find(store, old.id)
    if not replaced:  # somebody was quicker
        _require_active(old)
    return Rotated(old, new, text)


async def list_keys(store: DirectoryStore, team: str | None = None) -> list[Key]:
    """All keys or those of one team: by team, the oldest first.

    Raises Refused for an unknown team, StoreUnavailable.
    """
    known = await store.changes(0)
    if team is not None:
        _require_team(team, known.teams)
    found = [key for key in known.keys if team in (None, key.team)]
    return sorted(found, key=lambda key: (key.team, key.created, key.id))


async def set_key_state(store: DirectoryStore, id: str, state: KeyState) -> Key:
    """Set a key's state and give the key as it is now; `id` is whatever `normal_id` understands.

    Raises Refused where there is no such key or it is revoked already and for good,
    StoreUnavailable.
    """
    key = await _find(store, keys.normal_id(id))
    await store.set_key_state(key.id, state)
    key = await _find(store, key.id)
    if key.state == "revoked" != state:
        raise _revoked(key)
    return key


async def _find(store: DirectoryStore, id: str) -> Key:
    for key in (await store.changes(0)).keys:
        if key.id == id:
            return key
    raise Refused("There is no key with this id: 'gateway keys list' shows them all.")


def _require_active(key: Key) -> None:
    if key.state == "revoked":
        raise _revoked(key)
    if key.state == "disabled":
        raise Refused(f"{keys.PREFIX}{key.id} is disabled: enable it first, or create a new key.")


def _revoked(key: Key) -> Refused:
    return Refused(f"{keys.PREFIX}{key.id} is revoked, which is for good: create a new key.")


def _require_team(name: str, teams: Iterable[Team]) -> None:
    known = sorted(team.name for team in teams)
    if not known:
        raise Refused("There are no teams yet: bring them in with 'gateway teams apply FILE'.")
    if name not in known:
        name = scrub(name.encode(), ()).decode()
        raise Refused(f"There is no team {shown(name)}. The teams are {', '.join(known)}.")
