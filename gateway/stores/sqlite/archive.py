"""The whole state of a database, out of it and into an empty one.

Both have a thread and a connection of their own and are one transaction each: an export reads what
was committed when it began, however long it takes and whoever writes meanwhile; an import is
there whole or not at all, also after a crash. Neither ever holds more than a batch in memory.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, starmap
from typing import Any

from gateway.quota.account import Account
from gateway.stores.archive_format import (
    AccountRecord,
    AuditRecord,
    CheckRecord,
    ClaimRecord,
    ClockRecord,
    EntryRecord,
    KeyRecord,
    NotEmpty,
    NotRestored,
    Record,
    TeamRecord,
    UseRecord,
)
from gateway.stores.codec import decode_account, encode_account
from gateway.stores.sqlite import audit, claims, directory, schema, usage_entries, usage_sums
from gateway.stores.sqlite.connection import Database
from gateway.stores.sqlite.opening import make_ready
from gateway.stores.sqlite.worker import Worker

BATCH = 1_000
"""Records that are read or written in one go."""

_HELD = ("teams", "keys", "accounts", "audit", "entries")


class SqliteArchive:
    """The ArchiveStore of one database file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def export(self) -> AsyncGenerator[Sequence[Record], None]:
        worker = Worker("export", self._database)
        try:
            records = await worker.run(_records)
            while batch := await worker.run(lambda _: list(islice(records, BATCH))):
                yield batch
        finally:
            await worker.close()

    async def restore(self, records: Iterable[Record]) -> None:
        await asyncio.to_thread(make_ready, self._database)
        worker = Worker("import", self._database)
        coming = iter(records)
        try:
            generation = await worker.run(_begin)
            while batch := list(islice(coming, BATCH)):
                await worker.run(_writing(batch, generation))
            await worker.run(_end)
        finally:
            await worker.close()  # which rolls back what was not committed


# -- out, in the thread ----------------------------------------------------------------------------


def _records(connection: sqlite3.Connection) -> Iterator[Record]:
    # The first reading of the transaction is what fixes its moment, so it is done here and now.
    connection.execute("BEGIN")
    clock = schema.value(connection, "clock")
    return chain(
        _checks(connection),
        (ClockRecord(clock),),
        (TeamRecord(team) for team in directory.teams_after(connection, 0)),
        (KeyRecord(key) for key in directory.keys_after(connection, 0)),
        (UseRecord(*use) for use in directory.all_uses(connection).items()),
        _accounts(connection),
        starmap(AuditRecord, enumerate(audit.all_changes(connection), 1)),
        (ClaimRecord(claim) for claim in claims.claims_after(connection, clock) if claim.done),
        (EntryRecord(entry) for entry in usage_entries.all_entries(connection)),
    )


def _checks(connection: sqlite3.Connection) -> Iterator[Record]:
    for name, value in connection.execute(
        "SELECT substr(name, 7), value FROM meta WHERE name LIKE 'check:%' ORDER BY name"
    ):
        yield CheckRecord(name, value)


def _accounts(connection: sqlite3.Connection) -> Iterator[Record]:
    for name, version, state in connection.execute(
        "SELECT name, version, state FROM accounts ORDER BY name"
    ):
        yield AccountRecord(name, version, decode_account(state))


# -- in, in the thread -----------------------------------------------------------------------------


def _begin(connection: sqlite3.Connection) -> int:
    """Open the transaction, and tell the generation of all that comes."""
    connection.execute("BEGIN IMMEDIATE")
    for table in _HELD:
        if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():  # noqa: S608
            raise NotEmpty
    return directory.next_generation(connection)


def _end(connection: sqlite3.Connection) -> None:
    usage_sums.sum_up_all(connection)
    connection.execute("COMMIT")


def _writing(batch: Sequence[Record], generation: int) -> Callable[[sqlite3.Connection], None]:
    def write(connection: sqlite3.Connection) -> None:
        entries = [record.entry for record in batch if isinstance(record, EntryRecord)]
        try:
            for record in batch:
                _write(connection, record, generation)
            usage_entries.insert_entries(connection, entries)
        except sqlite3.IntegrityError as error:
            raise NotRestored("Two usage entries of the archive have the same id.") from error

    return write


def _write(connection: sqlite3.Connection, record: Record, generation: int) -> None:
    match record:
        case CheckRecord(check=name, value=value):
            # The former one may be another pepper's: nothing was made with that one here.
            connection.execute("REPLACE INTO meta VALUES (?, ?)", (f"check:{name}", value))
        case ClockRecord(at=at):
            connection.execute("UPDATE meta SET value = max(value, ?) WHERE name = 'clock'", (at,))
        case TeamRecord(team=team):
            directory.write_teams(connection, [team], generation)
        case KeyRecord(key=key):
            directory.write_key(connection, key, generation)
        case UseRecord(key=key_id, at=at):
            connection.execute("INSERT INTO uses VALUES (?, ?)", (key_id, at))
        case AccountRecord(account=name, version=version, state=state):
            connection.execute(
                "INSERT INTO accounts (name, version, due, state) VALUES (?, ?, ?, ?)",
                _row(name, version, state),
            )
        case AuditRecord(change=change):
            audit.write_audit(connection, [change])
        case ClaimRecord(claim=claim):
            claims.write_claim(connection, claim)


def _row(name: str, version: int, state: Account) -> tuple[Any, ...]:
    return name, version, state.earliest_lease, encode_account(state)
