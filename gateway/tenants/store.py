"""Ports: how teams, keys and the audit log are read and written."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import AuditEntry, Key, Team


class UnknownTeam(ValueError):
    """A key names a team that the store does not have."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team {team!r}.")


class DirectoryChanges(Struct, frozen=True):
    """Teams and keys written after some generation, and the generation that this leads to.

    Where `whole` is set, these are all teams and keys: any other no longer exists. `now` is the
    store's clock, None where the store has no clock of its own.
    """

    generation: int
    teams: list[Team]
    keys: list[Key]
    whole: bool = False
    now: float | None = None


class DirectoryWrite(Struct, frozen=True, kw_only=True):
    """Teams and keys to create or replace, and the audit entries of these changes."""

    teams: Sequence[Team] = ()
    keys: Sequence[Key] = ()
    audit: Sequence[AuditEntry] = ()


class DirectoryStore(Protocol):
    """Keeps teams and keys. Every method may raise StoreUnavailable."""

    async def changes(self, since: int) -> DirectoryChanges:
        """Return what was written after generation `since`, in the order of writing.

        Returns everything since generation 0, and since a generation that this store has not
        given out: it was another store's, or this one has lost it.
        """

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        """Write everything and return True, or nothing and False if the generation has changed.

        Teams and keys are created or replaced whole. Teams and keys take the next generation;
        audit entries alone do not. After StoreUnavailable, the write may have happened. Raises
        UnknownTeam if a key's team does not exist.
        """

    async def record_use(self, uses: Mapping[str, float]) -> None:
        """Record when keys were used, by id; the latest time wins. The generation stays."""

    async def last_uses(self) -> dict[str, float]:
        """Return when each key was last used, by id. Keys that were never used are absent."""


class AuditStore(Protocol):
    """The audit log, which `DirectoryStore.commit` writes. Methods may raise StoreUnavailable."""

    async def entries(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """Return up to `limit` entries from `start` (inclusive) to `end`, the latest first.

        `team` selects the entries of one team.
        """

    async def forget(self, before: float) -> None:
        """Delete the entries before that time."""
