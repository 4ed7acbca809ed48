"""The SQLite store: the ports' methods, each handed to the thread that it belongs to.

There are three threads, so that nobody waits for what is none of his business: one writes, one
reads accounts and the directory, one makes reports. With the write-ahead log readers see
everything committed and never wait for a writer, not even for one in another process.

Every operation ends within the busy time and a little more, also when the disk hangs: then what
was begun may still be done, as the ports say.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.core.errors import StoreUnavailable
from gateway.core.model import AuditEntry, Claim, Entry, UsageRow
from gateway.quota.store import Change, Loaded
from gateway.reporting.request_lines import Batch, ErrorKind, Latency, Line, Wanted
from gateway.stores.archive_format import Record
from gateway.stores.clock import StoreClock
from gateway.stores.faults import Opened
from gateway.stores.sqlite import (
    activity,
    archive,
    audit,
    directory,
    usage,
    usage_keeping,
    usage_reports,
)
from gateway.stores.sqlite.accounts import Accounts
from gateway.stores.sqlite.claims import Claims
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.opening import make_ready
from gateway.stores.sqlite.worker import Worker
from gateway.stores.sums import Sums, bounds_of, check_grouping, teams_of
from gateway.tenants.store import DirectoryChanges, DirectoryWrite

log = structlog.get_logger(source="store")

T = TypeVar("T")

GRACE_SECONDS = 0.5
"""What an operation may take beyond waiting for a lock."""


class SqliteStore(Opened):
    """Accounts, directory, usage and the log of changes in the file `path`; an asynchronous
    context manager.

    `wall` and `monotonic` are the clocks, `busy_seconds` how long another process' lock is waited
    for. `observe` is told of every operation that ended: its name, seconds, and whether the store
    was there; and under "went_back" of each account that lost writes.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        busy_seconds: float = 2.0,
        observe: Callable[[str, float, bool], None] | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._observe = observe
        clock = StoreClock(wall, monotonic)
        self._accounts, self._claims = Accounts(clock, self._went_back), Claims(clock)
        self._database = Database(path.absolute(), busy_seconds)
        self._writer = Worker("writer", self._database)
        self._reader = Worker("reader", self._database)
        self._reports = Worker("reports", self._database)

    async def open(self) -> None:
        """Make the file ready, and create it where there is none.

        Raises UnusableStore where an operator has to act, StoreUnavailable where the file is
        locked for too long; then it can be tried again.
        """
        await asyncio.to_thread(make_ready, self._database)

    async def close(self) -> None:
        """Finish what was begun and let go of the file. Later operations raise StoreUnavailable."""
        for worker in (self._writer, self._reader, self._reports):
            await worker.close()

    # -- AccountStore ---------------------------------------------------------------------------

    async def load(self, names: Sequence[str]) -> Loaded:
        """The named accounts, in order, as one consistent reading."""
        return await self._run("load", self._reader, partial(self._accounts.load, names=names))

    async def swap(self, changes: Sequence[Change], entries: Sequence[Entry]) -> bool:
        """Write all accounts and entries, or none where a version has moved on (False)."""
        work = partial(self._accounts.swap, changes=changes, entries=entries)
        return await self._run("swap", self._writer, work)

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write entries that touch no budget."""
        await self._run("record", self._writer, partial(usage.record, entries=entries))

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        """Which of these purchases, by id, have an entry."""
        return await self._run("written", self._reader, partial(usage.written, ids=purchases))

    async def due(self) -> list[str]:
        """Names of the accounts with a hold whose lease has run out, longest ago first."""
        return await self._run("due", self._reader, self._accounts.due)

    # -- DirectoryStore -------------------------------------------------------------------------

    async def changes(self, since: int) -> DirectoryChanges:
        """What was written after generation `since`; everything, since 0."""
        return await self._run("changes", self._reader, partial(directory.changes, since=since))

    async def commit(self, generation: int, write: DirectoryWrite) -> bool:
        """Write all of it, or nothing where the directory's generation has moved on (False).

        Raises UnknownTeam.
        """
        work = partial(directory.commit, generation=generation, write=write)
        return await self._run("commit", self._writer, work)

    async def record_use(self, uses: Mapping[str, float]) -> None:
        """Keep when keys were used, by id; the latest time stands. It makes no generation."""
        await self._run("record_use", self._writer, partial(directory.record_use, uses=uses))

    async def last_uses(self) -> dict[str, float]:
        """When each key was last used, by id; those never used are absent."""
        return await self._run("last_uses", self._reports, directory.last_uses)

    async def check_value(self, name: str, value: bytes) -> bool:
        """Whether `value` is what was first given under `name`; the first one is kept."""
        work = partial(directory.check_value, name=name, value=value)
        return await self._run("check_value", self._writer, work)

    async def confirm_reset(self) -> bool:
        """False: a file that was lost is never taken for the one that was opened."""
        return False

    # -- UsageStore -----------------------------------------------------------------------------

    async def usage(
        self,
        by: Sequence[str],
        start: float | None,
        end: float | None,
        team: str | Sequence[str] | None = None,
    ) -> list[UsageRow]:
        """Usage of all teams or some, summed by the fields of `by`; bounds are whole hours.

        A long report is made piece by piece, and others are made in between. Raises ValueError
        for any other field than the port's.
        """
        check_grouping(by)
        first, end_hour = bounds_of(start, end)
        asked = usage_reports.Asked(by=tuple(by), first=first, end=end_hour, teams=teams_of(team))
        total = Sums()
        for piece in await self._report(partial(usage_reports.pieces, asked=asked)):
            for group, numbers in (
                await self._report(partial(usage_reports.sums, asked=piece))
            ).items():
                total.add(group, numbers)
        return total.rows()

    async def tidy_usage(self, now: float, before: float | None) -> bool:
        """Forget a part of what is too old; False where there was nothing."""
        work = partial(usage_keeping.tidy, now=now, before=before)
        return await self._run("tidy_usage", self._writer, work)

    async def _report(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run("usage", self._reports, work)

    # -- AuditStore -----------------------------------------------------------------------------

    async def audit(
        self,
        start: float | None,
        end: float | None,
        team: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEntry]:
        """The log of changes, all or one team's, the latest first."""
        work = partial(audit.audit, start=start, end=end, team=team, limit=limit)
        return await self._run("audit", self._reports, work)

    async def forget_audit(self, before: float) -> None:
        """Forget the changes of before that time."""
        await self._run("forget_audit", self._writer, partial(audit.forget, before=before))

    # -- ClaimStore -----------------------------------------------------------------------------

    async def claim(self, name: str, owner: str, seconds: float, note: bytes = b"") -> float | None:
        """Claim it, or tell in how many seconds it can be claimed."""
        work = partial(self._claims.claim, name=name, owner=owner, seconds=seconds, note=note)
        return await self._run("claim", self._writer, work)

    async def complete_claim(
        self, name: str, owner: str, seconds: float, note: bytes = b""
    ) -> None:
        """It is done: nobody can claim it for so many seconds."""
        work = partial(self._claims.complete, name=name, owner=owner, seconds=seconds, note=note)
        await self._run("complete_claim", self._writer, work)

    async def claims(self) -> list[Claim]:
        """All claims that have not ended, those that end last first."""
        return await self._run("claims", self._reports, self._claims.all)

    # -- ActivityStore --------------------------------------------------------------------------

    async def write_activity(self, batch: Batch) -> None:
        """Add what became of requests, unless that was done before."""
        await self._run("write_activity", self._writer, partial(activity.write, batch=batch))

    async def activity(self, wanted: Wanted, limit: int, before: str | None = None) -> list[Line]:
        """Recent requests, the latest first."""
        work = partial(activity.lines, wanted=wanted, limit=limit, before=before)
        return await self._run("activity", self._reports, work)

    async def errors(self, start: float, end: float, team: str | None = None) -> list[ErrorKind]:
        """Errors by kind, the most frequent first."""
        work = partial(activity.errors, start=start, end=end, team=team)
        return await self._run("errors", self._reports, work)

    async def latency(self, start: float, end: float) -> list[Latency]:
        """How long requests took, by hour."""
        work = partial(activity.latency, start=start, end=end)
        return await self._run("latency", self._reports, work)

    async def forget_activity(self, now: float) -> None:
        """Forget what is too old."""
        await self._run("forget_activity", self._writer, partial(activity.forget, now=now))

    # -- ArchiveStore ---------------------------------------------------------------------------

    def export(self) -> AsyncGenerator[Sequence[Record], None]:
        """All that it holds, as it stood at one moment; bounded in memory, not in time."""
        return archive.export(self._database)

    async def restore(self, records: Iterable[Record]) -> None:
        """In the place of `open`: make the store of these records, all or none.

        Raises what `open` does, and NotRestored.
        """
        await self.open()
        await archive.restore(self._database, records)

    def _went_back(self, account: str) -> None:
        log.error(
            "the store went back: it lost writes, and budgets with them",
            place=f"sqlite:{self._database.path}",
            account=account,
        )
        if self._observe is not None:
            self._observe("went_back", 0.0, False)

    async def _run(
        self, operation: str, worker: Worker, work: Callable[[sqlite3.Connection], T]
    ) -> T:
        started, there = self._monotonic(), True
        try:
            async with asyncio.timeout(self._database.busy_seconds + GRACE_SECONDS):
                return await worker.run(work)
        except (StoreUnavailable, TimeoutError) as failure:
            there = False
            if isinstance(failure, StoreUnavailable):
                raise
            raise StoreUnavailable from failure
        finally:
            if self._observe is not None:
                self._observe(operation, self._monotonic() - started, there)
