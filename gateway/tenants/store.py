"""The ports through which teams, keys and the audit log are read and written."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from gateway.core.model import AuditEntry, Key, Team


class DirectoryChanges(Struct, frozen=True):
    """Teams and keys written after some generation, and the generation that this leads to.

    `whole` says that this is all there is: what is not in it is gone. `now` is the store's clock,
    None where it is that of the gateways' own machine.
    """

    generation: int
    teams: list[Team]
    keys: list[Key]
    whole: bool = False
    now: float | None = None


class DirectoryWrite(Struct, frozen=True, kw_only=True):
    """Teams and keys as they are to be from now on, and the log entries that tell of it."""

    teams: Sequence[Team] = ()
    keys: Sequence[Key] = ()
    audit: Sequence[AuditEntry] = ()


class DirectoryStore(Protocol):
    """Where teams and keys live. Every method may raise StoreUnavailable."""

    async def changes(self, since: int) -> DirectoryChanges:
        """What was written after generation `since`; everything, since 0.

        Everything also since a generation that this store has not given out: it was another's,
        or it was lost.
        """

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        """Write all of it, or nothing where the directory's generation has moved on (False).

        Teams and keys are created or replaced whole; each key's team must exist. The next
        generation is taken only where there are teams or keys. When StoreUnavailable is raised
        the write may have happened.
        """

    async def record_use(self, uses: Mapping[str, float]) -> None:
        """Keep when keys were used, by id; the latest time stands. It makes no generation."""

    async def last_uses(self) -> dict[str, float]:
        """When each key was last used, by id; those never used are absent."""


class AuditStore(Protocol):
    """Where the log of changes is read; `DirectoryStore.commit` writes it.

    Every method may raise StoreUnavailable.
    """

    async def audit(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """The entries from `start` (inclusive) to `end` (exclusive), the latest first.

        `team` leaves out what is not that team's; `limit` is how many at the most.
        """

    async def forget_audit(self, before: float) -> None:
        """Forget the entries of before that time."""
