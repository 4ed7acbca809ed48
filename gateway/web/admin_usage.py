"""Usage in the admin API: the command line's groups and filters, as JSON or CSV, in pieces."""

import csv
from collections.abc import Awaitable, Callable, Iterator, Sequence
from io import StringIO

from aiohttp import web
from msgspec import Struct, json
from msgspec.structs import fields

from gateway.listing import Listing
from gateway.ports import Store
from gateway.rules.windows import DAY_SECONDS
from gateway.usage_query import Span, UsageQuery, bounds, read_usage
from gateway.web.admin_routes import HEADERS, Asked, Route, refuse

PIECE_ROWS = 1_000
"""Rows that are written at once: a long report must not hold up the event loop."""


class UsageRowPage(Struct, frozen=True, kw_only=True):
    """One row: the fields that it was grouped by, then the sums. Money is decimal text."""

    team: str | None = None
    key: str | None = None
    model: str | None = None
    size: str | None = None
    quality: str | None = None
    outcome: str | None = None
    hour: str | None = None
    day: str | None = None
    requests: int
    requests_refused: int
    images_bought: int
    images_cached: int
    images_coalesced: int
    images_unknown: int
    cost_usd: str
    saved_usd: str


_SUMS = [field.name for field in fields(UsageRowPage) if field.required]


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
                answer=list[UsageRowPage],
                csv=True,
            )
        ]

    async def _usage(self, asked: Asked) -> web.StreamResponse:
        query: UsageQuery = asked.query
        start, end = span(query, asked.by.now)
        await self._flush()
        rows = await read_usage(self._store, query.by, start, end, query.team)
        by = list(dict.fromkeys(query.by))
        pieces = _csv(by, rows) if query.format == "csv" else _json(rows)
        kind = "text/csv; charset=utf-8" if query.format == "csv" else "application/json"
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": kind})
        await response.prepare(asked.request)
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
        return response


def span(query: Span, now: float, most_days: int | None = None) -> tuple[float, float | None]:
    """When the asked span begins and ends. Raises InvalidRequest, also where it is too long."""
    try:
        start, end = bounds(query, now)
    except ValueError as error:
        refuse([str(error)])
        raise
    days = (min(now, end or now) - start) / DAY_SECONDS
    if most_days is not None and days > most_days:
        refuse([f"from: is more than {most_days} days back from to"])
    return start, end


def _json(rows: Sequence[Listing]) -> Iterator[bytes]:
    """One JSON list of all rows."""
    yield b"["
    for start in range(0, len(rows), PIECE_ROWS):
        comma = b"," if start else b""
        yield comma + json.encode(rows[start : start + PIECE_ROWS])[1:-1]
    yield b"]"


def _csv(by: Sequence[str], rows: Sequence[Listing]) -> Iterator[bytes]:
    """The names, then a line a row."""
    for start in range(0, max(1, len(rows)), PIECE_ROWS):
        text = StringIO()
        writer = csv.DictWriter(text, [*by, *_SUMS], lineterminator="\n")
        if start == 0:
            writer.writeheader()
        writer.writerows(rows[start : start + PIECE_ROWS])
        yield text.getvalue().encode()
