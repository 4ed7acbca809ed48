"""The audit log in the admin API."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.core.model import AuditEntry
from gateway.reporting.time_span import Span, parse_time
from gateway.tenants.store import AuditStore
from gateway.web.admin.request import AdminRequest, AdminRoute


class AuditQuery(Span, frozen=True, kw_only=True):
    """Which changes to list. Without `from`, the list begins with the first change on record."""

    team: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class AuditLog(Struct, frozen=True, kw_only=True):
    """Changes, the latest first."""

    changes: list[AuditEntry]


def audit_routes(store: AuditStore) -> list[AdminRoute]:
    """The route to read the audit log."""

    async def audit(call: AdminRequest) -> AuditLog:
        query: AuditQuery = call.query
        start = None if query.first is None else parse_time(query.first)
        end = None if query.last is None else parse_time(query.last, ends=True)
        return AuditLog(changes=await store.entries(start, end, query.team, query.limit))

    path, summary = "/admin/v1/audit", "Who changed what"
    return [AdminRoute("GET", path, summary, audit, AuditLog, query=AuditQuery)]
