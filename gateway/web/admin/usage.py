"""Usage reports in the admin API, as JSON or CSV.

The gateway reads and sends reports by hour or day one day at a time, so that a year takes no more
memory than a day. Within a day, rows are in the order of their groups.
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
"""Rows that are encoded at once: a long report must not block the event loop."""


class AdminUsage:
    """The route of usage reports. `flush` writes buffered usage to the store."""

    def __init__(self, store: Store, flush: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._flush = flush

    def routes(self) -> list[AdminRoute]:
        """The route to read a usage report."""
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
            # Before the answer begins, an unavailable store can still be reported as an error.
            first = await anext(pieces, list[Listing]())
            text = _Csv(by) if query.format == "csv" else _Json()
            response = web.StreamResponse(headers={**HEADERS, "Content-Type": text.kind})
            await response.prepare(call.request)
            try:
                await _write(response, text, first)
                async for rows in pieces:
                    await _write(response, text, rows)
            except StoreUnavailable:
                # The status is sent already. A cut connection shows that the report is not whole.
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
        """Encode rows, at least one."""
        before, self._before = self._before, b","
        return before + json.encode(rows)[1:-1]

    def end(self) -> bytes:
        """Encode the end of the list."""
        return b"[]" if self._before == b"[" else b"]"


class _Csv:
    """A header line with the names, then one line for each row."""

    kind = "text/csv; charset=utf-8"

    def __init__(self, by: Sequence[str]) -> None:
        self._text = StringIO()
        self._writer = csv.DictWriter(self._text, [*by, *SUMS], lineterminator="\n")
        self._writer.writeheader()

    def piece(self, rows: Sequence[Listing]) -> bytes:
        """Encode rows."""
        self._writer.writerows(rows)
        return self.end()

    def end(self) -> bytes:
        """Return the text that was not returned before."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode()


async def _write(response: web.StreamResponse, text: _Json | _Csv, rows: Sequence[Listing]) -> None:
    """Send rows. The store is not read ahead of a client that reads slowly."""
    for start in range(0, len(rows), PIECE_ROWS):
        await response.write(text.piece(rows[start : start + PIECE_ROWS]))
