"""What a team learns about itself with its own key: its quotas and its usage, nothing of others."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from msgspec import Struct

from gateway.core.listing import Listing
from gateway.core.model import Caller
from gateway.quota.report import team_quotas
from gateway.reporting.usage_query import TeamUsageQuery, UsageLine, read_usage
from gateway.stores.port import Store
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory
from gateway.web.admin.quota import KeyQuota, LimitPage
from gateway.web.admin.routes import read_query
from gateway.web.admin.usage import span
from gateway.web.responses import json_response

MOST_DAYS = 400
"""The longest span that a team may ask about: a report must not keep the store from others."""


class OwnQuota(Struct, frozen=True, kw_only=True):
    """The team's limits, and the asking key's where it has any."""

    team: str
    limits: list[LimitPage]
    key: KeyQuota | None


class OwnUsage(Struct, frozen=True, kw_only=True):
    """The team's usage, all of its keys' together unless grouped by key."""

    team: str
    usage: list[UsageLine]


class SelfService:
    """The two routes. `flush` has what is not written yet written, `wall` tells the time."""

    def __init__(
        self,
        store: Store,
        directory: Directory,
        flush: Callable[[], Awaitable[None]],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._directory = directory
        self._flush = flush
        self._wall = wall

    async def quota(self, request: web.BaseRequest, record: RequestRecord) -> web.Response:
        """How the limits of the caller stand."""
        caller = await self._caller(request, record, "quota")
        (quota,) = await team_quotas(self._store.accounts, [caller.team], [caller.key])
        return json_response({**_without_keys(quota), "key": _only(quota["keys"])}, record)

    async def usage(self, request: web.BaseRequest, record: RequestRecord) -> web.Response:
        """What the caller's team asked for."""
        caller = await self._caller(request, record, "usage")
        query = read_query(request.rel_url.query, TeamUsageQuery)
        now, team = self._wall(), caller.team.name
        start, end = span(query, now, most_days=MOST_DAYS)
        await self._flush()
        rows = await read_usage(self._store.usage, query.by, start, end, team)
        return json_response({"team": team, "usage": rows}, record)

    async def _caller(
        self, request: web.BaseRequest, record: RequestRecord, outcome: str
    ) -> Caller:
        authorization = request.headers.getall("Authorization", ())
        caller = record.caller = await self._directory.authenticate(authorization)
        record.outcome = outcome
        return caller


def _without_keys(quota: Listing) -> Listing:
    return {name: value for name, value in quota.items() if name != "keys"}


def _only(keys: list[Listing]) -> Listing | None:
    return keys[0] if keys else None
