"""The Redis store: the ports' methods over one link to the server.

See `names` for what is kept where, `link` for how calls end, and the scripts for what they do.
"""

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing

from gateway.config.store_url import StoreUrl
from gateway.core.model import AuditEntry, Claim, Entry, UsageRow
from gateway.quota.store import Change, Loaded
from gateway.reporting.request_lines import Batch, ErrorKind, Latency, Line, Wanted
from gateway.stores.archive_format import Record
from gateway.stores.faults import Opened
from gateway.stores.redis import (
    activity,
    archive,
    audit,
    claims,
    directory,
    opening,
    usage_keeping,
    usage_reports,
)
from gateway.stores.redis.accounts import Accounts
from gateway.stores.redis.link import Link, Observe
from gateway.stores.redis.usage import written
from gateway.stores.sums import check_grouping
from gateway.tenants.store import DirectoryChanges, DirectoryWrite

CONNECTIONS = 8
"""To each server. The ledger uses one at a time; directory, hits, gauges and reports the others."""

PATIENCE_SECONDS = 2.0


class RedisStore(Opened):
    """Accounts, directory, usage and log of changes in the Redis at `place`; an asynchronous
    context manager.

    `patience` is how many seconds an operation may take. `observe` is told of every operation that
    ended: its name, seconds, and whether the store was there; under "pool_wait", of how long it
    waited for a connection.
    """

    def __init__(
        self,
        place: StoreUrl,
        *,
        connections: int = CONNECTIONS,
        patience: float = PATIENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        observe: Observe | None = None,
    ) -> None:
        self._place = place
        self._link = Link(
            place,
            connections=connections,
            patience=patience,
            monotonic=monotonic,
            observe=observe,
        )
        self._accounts = Accounts(self._link)

    async def open(self) -> None:
        """See that the server can be the store, and begin its epoch where it is empty.

        Raises UnusableStore where an operator has to act, StoreUnavailable where it is away; then
        it can be tried again.
        """
        await opening.make_ready(self._link, self._place)

    async def close(self) -> None:
        """Finish what was begun and let go. Later operations raise StoreUnavailable."""
        await self._link.close()

    # -- AccountStore ---------------------------------------------------------------------------

    async def load(self, names: Sequence[str]) -> Loaded:
        """The named accounts, in order, as one consistent reading."""
        with self._link.operation("load"):
            return await self._accounts.load(names)

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        """Write all accounts and entries, or none where a version has moved on (False)."""
        with self._link.operation("swap"):
            return await self._accounts.swap(changes, entries)

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that touch no budget."""
        with self._link.operation("record"):
            await self._accounts.swap((), entries)

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Which of these purchases have an entry; of those of the last three days it is known."""
        with self._link.operation("written"):
            return await written(self._link, purchases)

    async def due(self) -> list[str]:
        """Names of the accounts with a hold whose lease has run out, longest ago first."""
        with self._link.operation("due"):
            return await self._accounts.due()

    # -- DirectoryStore -------------------------------------------------------------------------

    async def changes(self, since: int) -> DirectoryChanges:
        """What was written after generation `since`; everything, since 0."""
        with self._link.operation("changes"):
            return await directory.changes(self._link, since)

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        """Write all of it, or nothing where the directory's generation has moved on (False).

        Raises UnknownTeam.
        """
        with self._link.operation("commit"):
            return await directory.commit(self._link, generation, write)

    async def record_use(self, uses: Mapping[str, float]) -> None:
        """Keep when keys were used, by id; the latest time stands. It makes no generation."""
        with self._link.operation("record_use"):
            await directory.record_use(self._link, uses)

    async def last_uses(self) -> dict[str, float]:
        """When each key was last used, by id; those never used are absent."""
        with self._link.operation("last_uses"):
            return await directory.last_uses(self._link)

    async def check_value(self, name: str, value: bytes) -> bool:
        """Whether `value` is what was first given under `name`; the first one is kept."""
        with self._link.operation("check_value"):
            return await directory.check_value(self._link, name, value)

    async def confirm_reset(self) -> bool:
        """Accept what the store holds now, be it nothing; False where that was done before."""
        with self._link.operation("confirm_reset"):
            return await opening.confirm_reset(self._link)

    # -- UsageStore -----------------------------------------------------------------------------

    async def usage(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        """Usage of all teams or some, summed by the fields of `by`; bounds are whole hours.

        Raises ValueError for any other field than the port's.
        """
        check_grouping(by)
        with self._link.operation("usage"):
            return await usage_reports.usage(self._link, by, start, end, team)

    async def tidy_usage(self, now: float, before: float | None) -> bool:
        """Forget or pack a part of the history; False where there was nothing to do."""
        with self._link.operation("tidy_usage"):
            return await usage_keeping.tidy(self._link, now, before)

    # -- AuditStore -----------------------------------------------------------------------------

    async def audit(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """The log of changes, all or one team's, the latest first."""
        with self._link.operation("audit"):
            return await audit.audit(self._link, start, end, team, limit)

    async def forget_audit(self, before: float) -> None:
        """Forget the changes of before that time."""
        with self._link.operation("forget_audit"):
            await audit.forget(self._link, before)

    # -- ClaimStore -----------------------------------------------------------------------------

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim it, or tell in how many seconds it can be claimed."""
        with self._link.operation("claim"):
            return await claims.claim(self._link, name, owner, seconds, note)

    async def complete_claim(
        self, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        """It is done: nobody can claim it for so many seconds."""
        with self._link.operation("complete_claim"):
            await claims.complete(self._link, name, owner, seconds, note)

    async def claims(self) -> list[Claim]:
        """All claims that have not ended, those that end last first."""
        with self._link.operation("claims"):
            return await claims.all_claims(self._link)

    # -- ActivityStore --------------------------------------------------------------------------

    async def write_activity(self, batch: Batch) -> None:
        """Add what became of requests, unless that was done before."""
        with self._link.operation("write_activity"):
            await activity.write(self._link, batch)

    async def activity(self, wanted: Wanted, limit: int, before: str | None = None) -> list[Line]:
        """Recent requests, the latest first."""
        with self._link.operation("activity"):
            return await activity.lines(self._link, wanted, limit, before)

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        """Errors by kind, the most frequent first."""
        with self._link.operation("errors"):
            return await activity.errors(self._link, start, end, team)

    async def latency(self, start: float, end: float) -> list[Latency]:
        """How long requests took, by hour."""
        with self._link.operation("latency"):
            return await activity.latency(self._link, start, end)

    async def forget_activity(self, now: float) -> None:
        """Forget what is too old."""
        with self._link.operation("forget_activity"):
            await activity.forget(self._link, now)

    # -- ArchiveStore ---------------------------------------------------------------------------

    async def export(self) -> AsyncGenerator[Sequence[Record], None]:
        """All that it holds. Usage of before the last two hours is read after all else.

        Hits, and purchases of more than three days ago, are summed up by hour.
        """
        with self._link.operation("export"):
            async with aclosing(archive.export(self._link)) as batches:
                async for batch in batches:
                    yield batch

    async def restore(self, records: Iterable[Record]) -> None:
        """In the place of `open`: make the store of these records, all or none.

        Raises what `open` does, and NotRestored.
        """
        with self._link.operation("restore"):
            await archive.restore(self._link, self._place, records)
