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

from gateway.core.errors import NoSuchThing, StoreUnavailable
from gateway.core.listing import Listing
from gateway.reporting.usage_query import SUMS, UsageLine, UsageQuery, usage_pieces
from gateway.stores.port import Store
from gateway.tenants.operations import check_team
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import HEADERS
from gateway.web.query import read_period

PIECE_ROWS = 1_000
"""Rows that are written at once: a long report must not hold up the event loop."""


class AdminUsage:
    """The routes over usage. `flush` has what is not written yet written."""

    def __init__(self, store: Store, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._flush = flush

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        return [
            AdminRoute(
                "GET",
                "/admin/v1/usage",
                "Requests, images, spend and savings",
                self._usage,
                list[UsageLine],
                query=UsageQuery,
                errors=(NoSuchThing,),
                example={"by": ["team", "day"], "format": "csv"},
                has_csv=True,
            )
        ]

    async def _usage(self, call: AdminRequest) -> web.StreamResponse:
        query: UsageQuery = call.query
        start, end = read_period(query, call.by.now)
        await check_team(self._store.directory, query.team)
        await self._flush()
        by = list(dict.fromkeys(query.by))
        async with aclosing(usage_pieces(self._store.usage, by, start, end, query.team)) as pieces:
            # Before the answer begins: a store that is away is told as such.
            first = await anext(pieces, list[Listing]())
            text = _Csv(by) if query.format == "csv" else _Json()
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": text.kind})
            await response.prepare(call.request)
            try:
                await _write(response, text, first)
                async for rows in pieces:
                    await _write(response, text, rows)
            except StoreUnavailable:
                # What was begun cannot be taken back. Cut off, it is not taken for the whole.
                if call.request.transport is not None:
                    call.request.transport.abort()
                return response
        await response.write(text.end())
        await response.write_eof()
        return response


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
