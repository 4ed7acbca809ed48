"""How a change of teams and keys is decided, written and logged.

Every change is decided on one reading of the directory. The store writes it, together with its line
in the audit log, only if the directory has not changed since. So two people who change the same
team at once cannot undo each other's work unseen, and the log has exactly what was before.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.admin_errors import Conflicting, NoSuchThing
from gateway.core.bounds import MOST_SHOWN
from gateway.core.errors import StoreUnavailable
from gateway.core.faults import shown
from gateway.core.key_format import public_id
from gateway.core.listing import Listing, listing
from gateway.core.model import AuditEntry, Key, Team
from gateway.core.redaction import redact
from gateway.tenants.store import DirectoryChanges, DirectoryStore, DirectoryWrite
from gateway.tenants.views import key_view

T = TypeVar("T")

ATTEMPTS = 20
"""How often a change is decided again because another one was written first."""


class OperationError(Conflicting):
    """An operation was not done, because the current state forbids it. The text is one line.

    It never repeats a key: the user may have pasted a whole key where an id belongs.
    """


class UnknownName(OperationError):
    """No team or key has this name or id."""

    status, code, outcome = NoSuchThing.status, NoSuchThing.code, NoSuchThing.outcome


class Actor(Struct, frozen=True):
    """Who changes something, for the audit log, and when: seconds since the epoch."""

    who: str
    now: float

    def entry(self, action: str, **fields: Any) -> AuditEntry:
        """The audit entry of an action of this actor, with the other fields of `AuditEntry`."""
        return AuditEntry(at=self.now, who=self.who, action=action, **fields)


async def commit(
    store: DirectoryStore, decide: Callable[[DirectoryChanges], tuple[DirectoryWrite, T]]
) -> T:
    """Write what `decide` returns for the directory, and return its outcome.

    `decide` runs again whenever another change was written first. Raises what it raises, and
    StoreUnavailable.
    """
    for _ in range(ATTEMPTS):
        directory = await store.changes(0)
        write, outcome = decide(directory)
        if not (write.teams or write.keys or write.audit):
            return outcome
        if await store.commit(directory.generation, write):
            return outcome
    raise StoreUnavailable


# -- audit entries ------------------------------------------------------------------------------


def team_entry(by: Actor, name: str, before: Listing | None, after: Listing | None) -> AuditEntry:
    """The audit entry of a team that was created, changed or deleted."""
    action = "team.create" if before is None else "team.delete" if after is None else "team.change"
    return by.entry(action, team=name, before=before, after=after)


def key_entry(by: Actor, action: str, before: Key | None, after: Key) -> AuditEntry:
    """The audit entry of a change to a key."""
    old = None if before is None else listing(key_view(before, by.now))
    new = listing(key_view(after, by.now))
    return by.entry(action, team=after.team, key=public_id(after.id), before=old, after=new)


def key_write(by: Actor, *changes: tuple[str, Key | None, Key]) -> DirectoryWrite:
    """Write keys with their audit entries. A change is an action and the key before and after."""
    audit = [key_entry(by, *change) for change in changes]
    return DirectoryWrite(keys=[after for _, _, after in changes], audit=audit)


def rotation_entry(by: Actor, before: Key, old: Key, new: Key) -> AuditEntry:
    """The audit entry of a replaced key, with the id of the key that replaces it."""
    entry = key_entry(by, "key.rotate", before, old)
    return replace(entry, after={**(entry.after or {}), "replaced_by": public_id(new.id)})


# -- look-ups -----------------------------------------------------------------------------------


def teams_of(directory: DirectoryChanges) -> dict[str, Team]:
    """The teams that exist, by name."""
    return {team.name: team for team in directory.teams if not team.deleted}


def team_of(known: dict[str, Team], name: str) -> Team:
    """The team of this name. Raises UnknownName."""
    if name in known:
        return known[name]
    raise unknown_team(name, known)


def key_of(directory: DirectoryChanges, id: str) -> Key:
    """The key of this id, in any form that `normal_id` reads. Raises UnknownName."""
    id = key_format.normal_id(id)
    for key in directory.keys:
        if key.id == id:
            return key
    raise UnknownName("There is no key with this id. 'gateway keys list' shows all keys.")


def unknown_team(name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that no team has."""
    known = sorted(known)
    if not known:
        return UnknownName("There are no teams yet. Create them with 'gateway teams apply FILE'.")
    name = redact(name.encode(), ()).decode()
    names = ", ".join(known[:MOST_SHOWN])
    if len(known) > MOST_SHOWN:
        names += f" and {len(known) - MOST_SHOWN} more"
    return UnknownName(f"There is no team {shown(name)}. The teams are {names}.")
