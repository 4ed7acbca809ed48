"""Usage in the admin API: the command line's groups and filters, as JSON or CSV.

Reports by hour or day are read and written day by day, so that a year of them takes no more memory
than a day; within each day rows are in the order of their groups.
"""

import csv
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from io import StringIO

from aiohttp import web
from msgspec import json

from gateway.core.errors import StoreUnavailable
from gateway.core.faults import Fault, InvalidField
from gateway.core.listing import Listing
from gateway.core.periods import DAY_SECONDS
from gateway.reporting.time_span import Span
from gateway.reporting.usage_query import (
    SUMS,
    UsageLine,
    UsageQuery,
    usage_bounds,
    usage_pieces,
)
from gateway.stores.port import Store
from gateway.tenants.operations import check_team
from gateway.web.admin.routes import HEADERS, Asked, Route, refuse

PIECE_ROWS = 1_000
"""Rows that are written at once: a long report must not hold up the event loop."""


class AdminUsage:
    """The routes over usage. `flush` has what is not written yet written."""

    def __init__(self, store: Store, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._flush = flush

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="GET",
                path="/admin/v1/usage",
                summary="What was asked for, bought and saved",
                handler=self._usage,
                query=UsageQuery,
                example={"by": ["team", "day"], "format": "csv"},
                answer=list[UsageLine],
                csv=True,
                statuses=(404,),
            )
        ]

    async def _usage(self, asked: Asked) -> web.StreamResponse:
        query: UsageQuery = asked.query
        start, end = span(query, asked.by.now)
        await check_team(self._store.directory, query.team)
        await self._flush()
        by = list(dict.fromkeys(query.by))
        async with aclosing(usage_pieces(self._store.usage, by, start, end, query.team)) as pieces:
            # Before the answer begins: a store that is away is told as such.
            first = await anext(pieces, list[Listing]())
            text = _Csv(by) if query.format == "csv" else _Json()
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": text.kind})
            await response.prepare(asked.request)
            try:
                await _write(response, text, first)
                async for rows in pieces:
                    await _write(response, text, rows)
            except StoreUnavailable:
                # What was begun cannot be taken back. Cut off, it is not taken for the whole.
                if asked.request.transport is not None:
                    asked.request.transport.abort()
                return response
        await response.write(text.end())
        await response.write_eof()
        return response


def span(query: Span, now: float, most_days: int | None = None) -> tuple[float, float | None]:
    """When the asked span begins and ends. Raises InvalidRequest, also where it is too long."""
    try:
        start, end = usage_bounds(query, now)
    except InvalidField as error:
        refuse([error.fault])
        raise
    days = (min(now, end or now) - start) / DAY_SECONDS
    if most_days is not None and days > most_days:
        refuse([Fault(("from",), f"is more than {most_days} days before to")])
    return start, end


class _Json:
    """One JSON list of all rows."""

    kind = "application/json"

    def __init__(self) -> None:
        self._before = b"["

    def piece(self, rows: Sequence[Listing]) -> bytes:
        """The text of some rows, of at least one."""
        before, self._before = self._before, b","
        return before + json.encode(rows)[1:-1]

    def end(self) -> bytes:
        """The text after all rows."""
        return b"[]" if self._before == b"[" else b"]"


class _Csv:
    """The names, then a line a row."""

    kind = "text/csv; charset=utf-8"

    def __init__(self, by: Sequence[str]) -> None:
        self._text = StringIO()
        self._writer = csv.DictWriter(self._text, [*by, *SUMS], lineterminator="\n")
        self._writer.writeheader()

    def piece(self, rows: Sequence[Listing]) -> bytes:
        """The text of some rows."""
        self._writer.writerows(rows)
        return self.end()

    def end(self) -> bytes:
        """What is written and was not given yet."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode()


async def _write(response: web.StreamResponse, text: _Json | _Csv, rows: Sequence[Listing]) -> None:
    """Write rows, as quickly as they are read: who reads slowly holds up the store's reading."""
    for start in range(0, len(rows), PIECE_ROWS):
        await response.write(text.piece(rows[start : start + PIECE_ROWS]))
