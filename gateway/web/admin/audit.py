"""The log of changes in the admin API."""

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from gateway.reporting.time_span import Span, parse_time
from gateway.stores.port import Store
from gateway.tenants.views import audit_listing
from gateway.web.admin.routes import Asked, Route, answer


class AuditQuery(Span, frozen=True, kw_only=True):
    """Which changes: without `from`, from the first one on record."""

    team: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class AuditLine(Struct, frozen=True, kw_only=True):
    """One change: `before` and `after` are the team or key as lists show it."""

    at: str
    who: str
    action: str
    team: str | None
    key: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AuditPage(Struct, frozen=True, kw_only=True):
    """Changes, the latest first."""

    changes: list[AuditLine]


class AdminAudit:
    """The routes over the log of changes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="GET",
                path="/admin/v1/audit",
                summary="Who changed what",
                handler=self._audit,
                query=AuditQuery,
                answer=AuditPage,
            )
        ]

    async def _audit(self, asked: Asked) -> web.Response:
        query: AuditQuery = asked.query
        start = None if query.first is None else parse_time(query.first)
        end = None if query.last is None else parse_time(query.last, ends=True)
        found = await self._store.audit.entries(start, end, query.team, query.limit)
        return answer({"changes": [audit_listing(entry) for entry in found]})
