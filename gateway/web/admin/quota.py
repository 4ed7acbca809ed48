"""Quotas in the admin API: current usage against every limit, and when it resets."""

from collections.abc import Callable

from msgspec import Struct

from gateway.core.errors import NoSuchThing
from gateway.core.model import Limits
from gateway.quota.report import LimitLine, TeamQuota, gateway_quota, team_quotas
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.web.admin.request import AdminRequest, AdminRoute

ALL = "/admin/v1/quota"
ONE = "/admin/v1/quota/{team}"


class Quotas(Struct, frozen=True, kw_only=True):
    """The limits of all teams together, and of each team."""

    gateway: list[LimitLine]
    teams: list[TeamQuota]


class AdminQuota:
    """The routes of quotas. `limits` returns the current limits of all teams together."""

    def __init__(self, store: Store, limits: Callable[[], Limits]) -> None:
        self._store = store
        self._limits = limits

    def routes(self) -> list[AdminRoute]:
        """The routes to read quotas."""
        one = "Current usage against one team's limits"
        return [
            AdminRoute("GET", ALL, "Current usage against all limits", self._all, Quotas),
            AdminRoute("GET", ONE, one, self._one, TeamQuota, errors=(NoSuchThing,)),
        ]

    async def _all(self, call: AdminRequest) -> Quotas:
        teams = await operations.list_teams(self._store.directory)
        keys = await operations.list_keys(self._store.directory)
        accounts = self._store.accounts
        return Quotas(
            gateway=await gateway_quota(accounts, self._limits()),
            teams=await team_quotas(accounts, teams, keys),
        )

    async def _one(self, call: AdminRequest) -> TeamQuota:
        team = await operations.find_team(self._store.directory, call.params["team"])
        keys = await operations.list_keys(self._store.directory, team.name)
        (quota,) = await team_quotas(self._store.accounts, [team], keys)
        return quota
