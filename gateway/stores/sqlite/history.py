"""Recent requests, errors by kind and latency: each batch is written in one transaction.

A batch adds to what is there, so it must not be written twice. The number of each gateway's last
batch is kept, in the transaction that wrote it.
"""

from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

from msgspec.structs import asdict, astuple

from gateway.core.periods import DAY_SECONDS
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
from gateway.stores.codec import decode_refused_by, encode_json, from_values
from gateway.stores.sqlite.threads import SqlitePart, in_thread, transaction
from gateway.stores.sums import bounds_of, hour_of

_FIELDS = RequestLine.__struct_fields__
# Only names of fields and outcomes are put into these statements, never a value (S608).
_COLUMNS = ", ".join(_FIELDS)
_INSERT = f"""
    INSERT INTO activity (ring, {_COLUMNS}) VALUES (?, {", ".join("?" for _ in _FIELDS)})
"""
_READ = f"""
    SELECT {_COLUMNS} FROM activity
    WHERE place < coalesce(:before, 'x') AND place >= :since
    AND (:team IS NULL OR team = :team) AND (:key IS NULL OR key = :key)
    AND (:outcome IS NULL OR outcome = :outcome) AND (:id IS NULL OR id = :id)
    AND NOT (:errors AND outcome IN ({", ".join(f"'{word}'" for word in sorted(SUCCESSES))}))
    ORDER BY place DESC LIMIT :limit
"""
_TRIM = """
    DELETE FROM activity WHERE ring = ? AND place <= (
        SELECT place FROM activity WHERE ring = ? ORDER BY place DESC LIMIT 1 OFFSET ?
    )
"""
_ADD_ERRORS = """
    INSERT INTO errors (hour, team, outcome, code, status, requests, last_at, last_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        requests = requests + excluded.requests,
        last_id = iif(excluded.last_at >= last_at, excluded.last_id, last_id),
        last_at = max(last_at, excluded.last_at)
"""
# With max(), SQLite takes the bare column last_id from the row that has the maximum.
_READ_ERRORS = """
    SELECT outcome, nullif(code, ''), status, sum(requests), max(last_at), last_id FROM errors
    WHERE hour >= ? AND hour < ? AND (? IS NULL OR team = ?)
    GROUP BY outcome, code, status ORDER BY sum(requests) DESC, outcome, last_id
"""
_READ_LATENCY = "SELECT hour, numbers FROM latency WHERE hour >= ? AND hour < ? ORDER BY hour"
_IS_NEW = """
    INSERT INTO activity_writers VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET number = excluded.number, at = excluded.at
    WHERE number < excluded.number
    RETURNING number
"""


class SqliteHistory(SqlitePart):
    """The HistoryStore in four tables."""

    @in_thread("writer", "write_activity")
    def write(self, connection: Connection, batch: HistoryBatch) -> None:
        with transaction(connection):
            if not connection.execute(_IS_NEW, (batch.writer, batch.number, batch.at)).fetchall():
                return
            connection.executemany(_INSERT, map(_row_of, batch.lines))
            hour = hour_of(batch.at)
            connection.executemany(_ADD_ERRORS, (_error_row(hour, error) for error in batch.errors))
            if batch.latency is not None:
                _add_latency(connection, batch.latency)
            if batch.keep is not None:
                for ring, share in ring_sizes(batch.keep).items():
                    connection.execute(_TRIM, (ring, ring, share))

    @in_thread("reports", "activity")
    def lines(
        self, connection: Connection, wanted: LineFilter, limit: int, before: str | None = None
    ) -> list[RequestLine]:
        values = {**asdict(wanted), "before": before, "limit": limit}
        rows = connection.execute(_READ, values)
        return [_line_of(row) for row in rows]

    @in_thread("reports", "errors")
    def errors(
        self, connection: Connection, start: float, end: float, team: str | None = None
    ) -> list[ErrorKind]:
        rows = connection.execute(_READ_ERRORS, (*bounds_of(start, end), team, team))
        return [from_values(ErrorKind, row) for row in rows]

    @in_thread("reports", "latency")
    def latency(self, connection: Connection, start: float, end: float) -> list[HourLatency]:
        return [
            latency_of(*row) for row in connection.execute(_READ_LATENCY, bounds_of(start, end))
        ]

    @in_thread("writer", "forget_activity")
    def forget(self, connection: Connection, now: float) -> None:
        first = now - LINE_DAYS * DAY_SECONDS
        with transaction(connection):
            connection.execute("DELETE FROM activity WHERE place < ?", (place_prefix(first),))
            connection.execute("DELETE FROM activity_writers WHERE at < ?", (first,))
            for table, days in (("errors", ERROR_DAYS), ("latency", LATENCY_DAYS)):
                hour = hour_of(now - days * DAY_SECONDS)
                connection.execute(f"DELETE FROM {table} WHERE hour < ?", (hour,))


def _row_of(line: RequestLine) -> tuple[object, ...]:
    by = line.refused_by
    values = {**asdict(line), "refused_by": None if by is None else encode_json(by)}
    return line.ring, *values.values()


def _line_of(row: Sequence[Any]) -> RequestLine:
    values = dict(zip(_FIELDS, row, strict=True))
    by = values["refused_by"]
    return RequestLine(**{**values, "refused_by": None if by is None else decode_refused_by(by)})


def _error_row(hour: int, error: TeamErrors) -> tuple[object, ...]:
    outcome, code, *rest = astuple(error.kind)
    return hour, error.team or "", outcome, code or "", *rest


def _add_latency(connection: Connection, added: HourLatency) -> None:
    for row in connection.execute(_READ_LATENCY, (added.hour, added.hour + 1)).fetchall():
        added = latency_of(*row).plus(added)
    connection.execute("REPLACE INTO latency VALUES (?, ?)", (added.hour, added.numbers()))
