"""What an operator does with teams and keys, over the store's port, whoever asks for it.

Nothing here prints. What cannot be done is raised as Refused, in one line that never repeats a
key: somebody may have pasted a whole one in the place of an id.
"""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from gateway.model import Key, KeyState, Team
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
) -> tuple[Key, str]:
    """A new key and its text, which nothing but this answer ever holds.

    `lifetime` is in seconds, None for ever. Raises Refused for an unknown team, StoreUnavailable
    (then the key may have been made, and nobody has it).
    """
    _require_team(team, (await store.changes(0)).teams)
    id, text = keys.mint(entropy)
    expires = None if lifetime is None else now + lifetime
    digest = keys.digest(text, pepper)
    key = Key(id=id, team=team, name=name, digest=digest, created=now, expires=expires)
    await store.put_key(key)
    return key, text


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
    id = keys.normal_id(id)
    possible = id.isascii() and id.isalnum()  # a store need not bear with anything else
    if not possible or not await store.set_key_state(id, state):
        raise Refused("There is no key with this id: 'gateway keys list' shows them all.")
    key = next(key for key in (await store.changes(0)).keys if key.id == id)
    if key.state == "revoked" != state:
        raise Refused(f"{keys.PREFIX}{id} is revoked, which is for good: create a new key.")
    return key


def _require_team(name: str, teams: Iterable[Team]) -> None:
    known = sorted(team.name for team in teams)
    if not known:
        raise Refused("There are no teams yet: bring them in with 'gateway teams apply FILE'.")
    if name not in known:
        name = scrub(name.encode(), ()).decode()
        raise Refused(f"There is no team {shown(name)}. The teams are {', '.join(known)}.")
