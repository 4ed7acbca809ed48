"""Recent requests, errors by kind and latency: written in one transaction, read as they are asked.

Adding is no setting: what was written already must not be added again. So each gateway's last batch
is kept, in the transaction that wrote it.
"""

import sqlite3
from collections.abc import Sequence
from math import ceil

from msgspec.structs import astuple

from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.reporting.request_lines import (
    ERROR_DAYS,
    LATENCY_DAYS,
    LINE_DAYS,
    SUCCESSES,
    ErrorKind,
    HistoryBatch,
    HourLatency,
    LineFilter,
    RequestLine,
    TeamErrors,
    latency_of,
    place_prefix,
    ring_sizes,
)
from gateway.stores.sqlite.threads import Threads, in_thread, transaction

_FIELDS = RequestLine.__struct_fields__
# Lists of our own words: no text of anybody's is in the statements.
_COLUMNS = ", ".join(_FIELDS)
_INSERT = f"""
    INSERT INTO activity (ring, {_COLUMNS}) VALUES (?, {", ".join("?" for _ in _FIELDS)})
"""  # noqa: S608
_READ = f"""
    SELECT {_COLUMNS} FROM activity
    WHERE place < coalesce(?, 'x') AND place >= ?
    AND (? IS NULL OR team = ?) AND (? IS NULL OR key = ?)
    AND (? IS NULL OR outcome = ?) AND (? IS NULL OR id = ?)
    AND NOT (? AND outcome IN ({", ".join(f"'{word}'" for word in sorted(SUCCESSES))}))
    ORDER BY place DESC LIMIT ?
"""  # noqa: S608
_TRIM = """
    DELETE FROM activity WHERE ring = ? AND place <= (
        SELECT place FROM activity WHERE ring = ? ORDER BY place DESC LIMIT 1 OFFSET ?
    )
"""
_ADD_ERRORS = """
    INSERT INTO errors VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        requests = requests + excluded.requests,
        last_id = iif(excluded.last_at >= last_at, excluded.last_id, last_id),
        last_at = max(last_at, excluded.last_at)
"""
# With max() SQLite takes the other columns from the row that has it.
_READ_ERRORS = """
    SELECT outcome, code, status, sum(requests), max(last_at), last_id FROM errors
    WHERE hour >= ? AND hour < ? AND (? IS NULL OR team = ?)
    GROUP BY outcome, code, status ORDER BY sum(requests) DESC, outcome, last_id
"""
_IS_NEW = """
    INSERT INTO activity_writers VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET number = excluded.number, at = excluded.at
    WHERE number < excluded.number
    RETURNING number
"""


class SqliteHistory:
    """The HistoryStore in four tables."""

    def __init__(self, threads: Threads) -> None:
        self.threads = threads

    @in_thread("writer", "write_activity")
    def write(self, connection: sqlite3.Connection, batch: HistoryBatch) -> None:
        with transaction(connection):
            if not connection.execute(_IS_NEW, (batch.writer, batch.number, batch.at)).fetchall():
                return
            connection.executemany(_INSERT, ((line.ring, *astuple(line)) for line in batch.lines))
            hour = int(batch.at // HOUR_SECONDS)
            connection.executemany(_ADD_ERRORS, (_error_row(hour, error) for error in batch.errors))
            if batch.latency is not None:
                _add_latency(connection, batch.latency)
            if batch.keep is not None:
                for ring, share in ring_sizes(batch.keep).items():
                    connection.execute(_TRIM, (ring, ring, share))

    @in_thread("reports", "activity")
    def lines(
        self,
        connection: sqlite3.Connection,
        wanted: LineFilter,
        limit: int,
        before: str | None = None,
    ) -> list[RequestLine]:
        filters = [value for name in (wanted.team, wanted.key, wanted.outcome, wanted.id)
                   for value in (name, name)]  # fmt: skip
        rows = connection.execute(_READ, (before, wanted.since, *filters, wanted.errors, limit))
        return [RequestLine(**dict(zip(_FIELDS, row, strict=True))) for row in rows]

    @in_thread("reports", "errors")
    def errors(
        self, connection: sqlite3.Connection, start: float, end: float, team: str | None = None
    ) -> list[ErrorKind]:
        rows = connection.execute(_READ_ERRORS, (*_hours(start, end), team, team))
        return [_kind(*row) for row in rows]

    @in_thread("reports", "latency")
    def latency(
        self, connection: sqlite3.Connection, start: float, end: float
    ) -> list[HourLatency]:
        rows = connection.execute(
            "SELECT hour, numbers FROM latency WHERE hour >= ? AND hour < ? ORDER BY hour",
            _hours(start, end),
        )
        return [_latency(*row) for row in rows]

    @in_thread("writer", "forget_activity")
    def forget(self, connection: sqlite3.Connection, now: float) -> None:
        first = now - LINE_DAYS * DAY_SECONDS
        with transaction(connection):
            connection.execute("DELETE FROM activity WHERE place < ?", (place_prefix(first),))
            connection.execute("DELETE FROM activity_writers WHERE at < ?", (first,))
            for table, days in (("errors", ERROR_DAYS), ("latency", LATENCY_DAYS)):
                hour = int((now - days * DAY_SECONDS) // HOUR_SECONDS)
                connection.execute(f"DELETE FROM {table} WHERE hour < ?", (hour,))  # noqa: S608


def _hours(start: float, end: float) -> tuple[int, int]:
    return ceil(start / HOUR_SECONDS), ceil(end / HOUR_SECONDS)


def _error_row(hour: int, error: TeamErrors) -> tuple[object, ...]:
    kind = error.kind
    what = (hour, error.team or "", kind.outcome, kind.code or "", kind.status)
    return *what, kind.requests, kind.last_at, kind.last_id


def _kind(
    outcome: str, code: str, status: int, requests: int, last_at: float, last_id: str
) -> ErrorKind:
    return ErrorKind(
        outcome=outcome,
        code=code or None,
        status=status,
        requests=requests,
        last_at=last_at,
        last_id=last_id,
    )


def _add_latency(connection: sqlite3.Connection, more: HourLatency) -> None:
    query = "SELECT hour, numbers FROM latency WHERE hour = ?"
    for row in connection.execute(query, (more.hour,)).fetchall():
        more = _latency(*row).plus(more)
    numbers = " ".join(map(str, more.numbers()))
    connection.execute("REPLACE INTO latency VALUES (?, ?)", (more.hour, numbers))


def _latency(hour: int, numbers: str) -> HourLatency:
    return latency_of(hour, _read(numbers))


def _read(numbers: str) -> Sequence[int]:
    return [int(number) for number in numbers.split()]
