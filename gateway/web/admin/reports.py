"""Reports in the admin API: usage, the overview, quotas, recent requests, errors, and changes.

The gateway reads usage by hour or day one day at a time, and sends it as JSON or CSV. So a year
takes no more memory than a day. Within a day, rows are in the order of their groups.
"""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Annotated

from aiohttp import web
from aiohttp.hdrs import METH_HEAD
from msgspec import Meta, Struct, field

from gateway.config.live import CurrentSettings
from gateway.core.admin_errors import NoSuchThing
from gateway.core.bounds import MOST_CHANGES, Text
from gateway.core.errors import StoreUnavailable
from gateway.core.listing import Listing
from gateway.core.model import AuditEntry
from gateway.quota.report import LimitLine, TeamQuota, gateway_quota, team_quotas
from gateway.reporting.overview import Overview, days_between, read_overview
from gateway.reporting.queries import (
    SUMS,
    ActivityPage,
    ActivityQuery,
    ErrorPage,
    ErrorQuery,
    Span,
    UsageLine,
    UsageQuery,
    parse_time,
    read_activity,
    read_errors,
    usage_bounds,
    usage_pieces,
)
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.web.admin.http import HEADERS, AdminRequest, AdminRoute
from gateway.web.responses import json_lists

_KNOWN = (NoSuchThing,)
Rows = AsyncIterator[Sequence[Listing]]
Flush = Callable[[], Awaitable[None]]
"""Writes what is buffered to the store. Raises StoreUnavailable."""


def _check_day(text: str) -> None:
    parse_time(text)
    if len(text) != len("2026-11-01"):
        raise ValueError("not a day")


Day = Annotated[
    str,
    Meta(
        description="a day such as 2026-11-01, in the years 1970 to 9998",
        extra={"check": _check_day},
    ),
]


class OverviewQuery(Span, frozen=True, kw_only=True):
    """The first and the last day in UTC, by default the last 30 days, and one team or all."""

    first: Day | None = field(name="from", default=None)
    last: Day | None = field(name="to", default=None)
    team: Text | None = None


class Quotas(Struct, frozen=True, kw_only=True):
    """The limits of all teams together, and of each team."""

    gateway: list[LimitLine]
    teams: list[TeamQuota]


class AuditQuery(Span, frozen=True, kw_only=True):
    """Selects changes. Without `from`, the list begins with the first change on record."""

    team: Text | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_CHANGES)] = 1_000


class AuditLog(Struct, frozen=True, kw_only=True):
    """Changes, the latest first."""

    changes: list[AuditEntry]


@dataclass(frozen=True)
class Reports:
    """The routes of reports. `flush_usage` and `flush_history` write what the reports lack."""

    store: Store
    settings: CurrentSettings
    flush_usage: Flush
    flush_history: Flush

    @AdminRoute("GET", "/quota", "Current usage against all limits")
    async def _quotas(self, call: AdminRequest) -> Quotas:
        directory, accounts = self.store.directory, self.store.accounts
        teams, keys = await operations.list_teams(directory), await operations.list_keys(directory)
        return Quotas(
            gateway=await gateway_quota(accounts, self.settings().limits),
            teams=await team_quotas(accounts, teams, keys),
        )

    @AdminRoute("GET", "/quota/{team}", "Current usage against one team's limits", errors=_KNOWN)
    async def _quota(self, call: AdminRequest) -> TeamQuota:
        team = await operations.find_team(self.store.directory, call.params["team"])
        keys = await operations.list_keys(self.store.directory, team.name)
        (quota,) = await team_quotas(self.store.accounts, [team], keys)
        return quota

    @AdminRoute(
        "GET",
        "/usage",
        "Requests, images, spend and savings",
        response=list[UsageLine],
        query=UsageQuery,
        errors=_KNOWN,
        example={"by": ["team", "day"], "format": "csv"},
        has_csv=True,
    )
    async def _usage(self, call: AdminRequest) -> web.StreamResponse:
        query: UsageQuery = call.query
        start, end = usage_bounds(query, call.by.now)
        await operations.check_team(self.store.directory, query.team)
        await self.flush_usage()
        by = list(dict.fromkeys(query.by))
        async with aclosing(usage_pieces(self.store.usage, by, start, end, query.team)) as pieces:
            if query.format == "csv":
                return await _send(call, "text/csv; charset=utf-8", _csv(pieces, by))
            return await _send(call, "application/json", json_lists(pieces))

    @AdminRoute("GET", "/overview", "Spend and savings, by team, key and day", query=OverviewQuery)
    async def _overview(self, call: AdminRequest) -> Overview:
        query: OverviewQuery = call.query
        first, last = (
            None if day is None else parse_time(day) for day in (query.first, query.last)
        )
        days = days_between(first, last, call.by.now)
        await self.flush_usage()
        await self.flush_history()
        usage, history = self.store.usage, self.store.history
        return await read_overview(usage, history, days, query.team, call.by.now)

    @AdminRoute("GET", "/activity", "Recent requests", query=ActivityQuery, errors=_KNOWN)
    async def _activity(self, call: AdminRequest) -> ActivityPage:
        await self._prepare_history(call)
        return await read_activity(self.store.history, call.query)

    @AdminRoute(
        "GET", "/errors", "Errors by kind, the most frequent first", query=ErrorQuery, errors=_KNOWN
    )
    async def _errors(self, call: AdminRequest) -> ErrorPage:
        await self._prepare_history(call)
        return await read_errors(self.store.history, call.query, call.by.now)

    async def _prepare_history(self, call: AdminRequest) -> None:
        await operations.check_team(self.store.directory, call.query.team)
        with suppress(StoreUnavailable):  # a store that cannot be written may still be readable
            await self.flush_history()

    @AdminRoute("GET", "/audit", "Who changed what", query=AuditQuery)
    async def _audit(self, call: AdminRequest) -> AuditLog:
        query: AuditQuery = call.query
        start, end = query.bounds()
        return AuditLog(changes=await self.store.audit.entries(start, end, query.team, query.limit))


# -- usage in pieces ----------------------------------------------------------------------------


async def _csv(pieces: Rows, by: Sequence[str]) -> AsyncIterator[bytes]:
    """Encode a header line with the names, then one line for each row."""
    text = StringIO()
    writer = csv.DictWriter(text, [*by, *SUMS], lineterminator="\n")
    writer.writeheader()
    async for rows in pieces:
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
    if call.request.method == METH_HEAD:
        return response
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
