"""Exports a whole database, and imports into an empty one.

Both use a thread and a connection of their own, and one transaction. An export reads what was
committed when it began, however long it takes and whatever is written meanwhile. An import is
there whole or not at all, also after a crash. Neither holds more than a batch in memory.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, starmap
from sqlite3 import Connection

from gateway.stores import archive_format as archive
from gateway.stores.archive_format import ArchiveRecord
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.sqlite import claims, directory, purchases, schema, usage_sums
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.threads import Worker

BATCH = 1_000
"""Records that are read or written in one piece of work."""

_TABLES = ("teams", "keys", "accounts", "audit", "entries", "usage_totals")
"""The tables that must be empty before an import."""

_CHECKS = "SELECT substr(name, 7), value FROM meta WHERE name LIKE 'check:%' ORDER BY name"
_ACCOUNTS = "SELECT name, version, state FROM accounts ORDER BY name"
_PUT_ACCOUNT = "INSERT INTO accounts (name, version, due, state) VALUES (?, ?, ?, ?)"


class SqliteArchive:
    """The ArchiveStore of one database file."""

    def __init__(self, database: Database, open: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._open = open

    async def export(self) -> AsyncGenerator[Sequence[ArchiveRecord], None]:
        worker = Worker("export", self._database)
        try:
            records = await worker.run(_records)
            while batch := await worker.run(lambda _: list(islice(records, BATCH))):
                yield batch
        finally:
            await worker.close()

    async def restore(self, records: Iterable[ArchiveRecord]) -> None:
        await self._open()
        worker = Worker("import", self._database)
        coming = iter(records)
        try:
            generation = await worker.run(_begin)
            while batch := list(islice(coming, BATCH)):
                await worker.run(partial(_write_batch, batch=batch, generation=generation))
            await worker.run(_end)
        finally:
            await worker.close()  # which rolls back what was not committed


# -- export, in the thread ------------------------------------------------------------------------


def _records(connection: Connection) -> Iterator[ArchiveRecord]:
    # The first read fixes the moment of the transaction, so it is done here, not by the iterator.
    connection.execute("BEGIN")
    clock = schema.value(connection, "clock")
    accounts = connection.execute(_ACCOUNTS)
    log = directory.all_audit_entries(connection)
    done = (claim for claim in claims.claims_after(connection, clock) if claim.done)
    return chain(
        starmap(archive.CheckRecord, connection.execute(_CHECKS)),
        (archive.ClockRecord(clock),),
        map(archive.TeamRecord, directory.teams_after(connection, 0)),
        map(archive.KeyRecord, directory.keys_after(connection, 0)),
        starmap(archive.UseRecord, directory.all_uses(connection).items()),
        (
            archive.AccountRecord(name, version, decode_account(state))
            for name, version, state in accounts
        ),
        starmap(archive.AuditRecord, enumerate(log, 1)),
        map(archive.ClaimRecord, done),
        map(archive.EntryRecord, usage_sums.all_entries(connection)),
        map(archive.PurchaseRecord, purchases.all_purchases(connection)),
    )


# -- import, in the thread ------------------------------------------------------------------------


def _begin(connection: Connection) -> int:
    """Open the transaction, and return the generation of all teams and keys that are imported."""
    connection.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            raise archive.NotEmpty
    return directory.next_generation(connection)


def _end(connection: Connection) -> None:
    usage_sums.sum_up_import(connection)
    connection.execute("COMMIT")


def _write_batch(connection: Connection, batch: Sequence[ArchiveRecord], generation: int) -> None:
    write, entries = archive.directory_and_entries(batch)
    directory.write_directory(connection, write, generation)
    usage_sums.write_entries(connection, entries)
    for record in batch:
        match record:
            case archive.CheckRecord(check=name, value=value):
                # It replaces that of another pepper: no key here was made with that one.
                connection.execute("REPLACE INTO meta VALUES (?, ?)", (f"check:{name}", value))
            case archive.ClockRecord(at=at):
                schema.advance(connection, "clock", at)
            case archive.UseRecord(key=key_id, at=at):
                connection.execute("INSERT INTO uses VALUES (?, ?)", (key_id, at))
            case archive.AccountRecord(account=name, version=version, state=state):
                row = (name, version, state.earliest_lease, encode_account(state))
                connection.execute(_PUT_ACCOUNT, row)
            case archive.ClaimRecord(claim=claim):
                claims.write_claim(connection, claim)
            case archive.PurchaseRecord(purchase=purchase):
                purchases.put_purchases(connection, [purchase])
