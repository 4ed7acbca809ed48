"""Usage reports in the admin API, as JSON or CSV.

The gateway reads and sends reports by hour or day one day at a time, so that a year takes no more
memory than a day. Within a day, rows are in the order of their groups.
"""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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

Rows = AsyncIterator[Sequence[Listing]]


def usage_routes(store: Store, flush: Callable[[], Awaitable[None]]) -> list[AdminRoute]:
    """The route to read a usage report. `flush` writes buffered usage to the store."""

    async def usage(call: AdminRequest) -> web.StreamResponse:
        query: UsageQuery = call.query
        start, end = read_period(query, call.by.now)
        await check_team(store.directory, query.team)
        await flush()
        by = list(dict.fromkeys(query.by))
        async with aclosing(usage_pieces(store.usage, by, start, end, query.team)) as pieces:
            if query.format == "csv":
                return await _send(call, "text/csv; charset=utf-8", _csv(_portions(pieces), by))
            return await _send(call, "application/json", _json(_portions(pieces)))

    return [
        AdminRoute(
            "GET",
            "/admin/v1/usage",
            "Requests, images, spend and savings",
            usage,
            list[UsageLine],
            query=UsageQuery,
            errors=(NoSuchThing,),
            example={"by": ["team", "day"], "format": "csv"},
            has_csv=True,
        )
    ]


async def _portions(pieces: Rows) -> Rows:
    async for rows in pieces:
        for start in range(0, len(rows), PIECE_ROWS):
            yield rows[start : start + PIECE_ROWS]


async def _json(portions: Rows) -> AsyncIterator[bytes]:
    """Encode one JSON list of all rows."""
    before = b"["
    async for rows in portions:
        yield before + json.encode(rows)[1:-1]
        before = b","
    yield b"[]" if before == b"[" else b"]"


async def _csv(portions: Rows, by: Sequence[str]) -> AsyncIterator[bytes]:
    """Encode a header line with the names, then one line for each row."""
    text = StringIO()
    writer = csv.DictWriter(text, [*by, *SUMS], lineterminator="\n")
    writer.writeheader()
    async for rows in portions:
        writer.writerows(rows)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


async def _send(call: AdminRequest, kind: str, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    """Send a report. The store is not read ahead of a client that reads slowly."""
    # Before the answer begins, an unavailable store can still be reported as an error.
    first = await anext(chunks)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": kind})
    await response.prepare(call.request)
    try:
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
    except StoreUnavailable:
        # The status is sent already. A cut connection shows that the report is not whole.
        if call.request.transport is not None:
            call.request.transport.abort()
        return response
    await response.write_eof()
    return response
