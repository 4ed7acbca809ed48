"""Quotas in the admin API: what is used, held and left of every limit, and when it resets."""

from collections.abc import Callable

from aiohttp import web
from msgspec import Struct

from gateway.core.model import Limits
from gateway.quota.report import gateway_quota, team_quotas
from gateway.stores.port import Store
from gateway.tenants import operations
from gateway.web.admin.routes import Asked, Route, answer


class LimitPage(Struct, frozen=True, kw_only=True):
    """One limit as it stands. Money is dollars as decimal text, everything else a count."""

    limit: str
    size: int | str
    used: int | str
    held: int | str
    remaining: int | str
    resets_at: str | None


class KeyQuota(Struct, frozen=True, kw_only=True):
    """A key's own limits. Keys of a `line` share them."""

    key: str
    line: str
    name: str
    limits: list[LimitPage]


class TeamQuota(Struct, frozen=True, kw_only=True):
    """A team's limits, and those of its keys that have any."""

    team: str
    limits: list[LimitPage]
    keys: list[KeyQuota]


class QuotaPage(Struct, frozen=True, kw_only=True):
    """All limits: those of all teams together, and of each."""

    gateway: list[LimitPage]
    teams: list[TeamQuota]


class AdminQuota:
    """The routes over quotas. `limits` gives the gateway-wide ones in force."""

    def __init__(self, store: Store, limits: Callable[[], Limits]) -> None:
        self._store = store
        self._limits = limits

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="GET",
                path="/admin/v1/quota",
                summary="How all limits stand",
                handler=self._all,
                answer=QuotaPage,
            ),
            Route(
                method="GET",
                path="/admin/v1/quota/{team}",
                summary="How one team's limits stand",
                handler=self._one,
                answer=TeamQuota,
                statuses=(404,),
            ),
        ]

    async def _all(self, asked: Asked) -> web.Response:
        teams = await operations.list_teams(self._store.directory)
        keys = await operations.list_keys(self._store.directory)
        gateway = await gateway_quota(self._store.accounts, self._limits())
        return answer(
            {"gateway": gateway, "teams": await team_quotas(self._store.accounts, teams, keys)}
        )

    async def _one(self, asked: Asked) -> web.Response:
        team = await operations.find_team(self._store.directory, asked.path["team"])
        keys = await operations.list_keys(self._store.directory, team.name)
        (quota,) = await team_quotas(self._store.accounts, [team], keys)
        return answer(quota)
