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


def quota_routes(store: Store, limits: Callable[[], Limits]) -> list[AdminRoute]:
    """The routes to read quotas. `limits` returns the current limits of all teams together."""
    directory, accounts = store.directory, store.accounts

    async def show_all(call: AdminRequest) -> Quotas:
        teams = await operations.list_teams(directory)
        keys = await operations.list_keys(directory)
        return Quotas(
            gateway=await gateway_quota(accounts, limits()),
            teams=await team_quotas(accounts, teams, keys),
        )

    async def show_one(call: AdminRequest) -> TeamQuota:
        team = await operations.find_team(directory, call.params["team"])
        keys = await operations.list_keys(directory, team.name)
        (quota,) = await team_quotas(accounts, [team], keys)
        return quota

    one = "Current usage against one team's limits"
    return [
        AdminRoute("GET", ALL, "Current usage against all limits", show_all, Quotas),
        AdminRoute("GET", ONE, one, show_one, TeamQuota, errors=(NoSuchThing,)),
    ]
