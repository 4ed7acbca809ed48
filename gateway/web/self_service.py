"""A team's own quotas and usage, read with its own key. A team sees nothing of other teams."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct
from multidict import MultiMapping

from gateway.core.model import Caller
from gateway.quota.report import KeyQuota, LimitLine, team_quotas
from gateway.reporting.usage_query import TeamUsageQuery, UsageLine, read_usage
from gateway.stores.port import Store
from gateway.web.query import read_period, read_query

MOST_DAYS = 400
"""The longest period of one report: a longer one would keep the store busy for everybody else."""


class OwnQuota(Struct, frozen=True, kw_only=True):
    """The team's limits, and the limits of the caller's key if it has any."""

    team: str
    limits: list[LimitLine]
    key: KeyQuota | None


class OwnUsage(Struct, frozen=True, kw_only=True):
    """The team's usage, all of its keys together unless grouped by key."""

    team: str
    usage: list[UsageLine]


class SelfService:
    """Reports to a team. `flush` writes buffered usage, `wall` is the time."""

    def __init__(
        self, store: Store, flush: Callable[[], Awaitable[None]], wall: Callable[[], float]
    ) -> None:
        self._store = store
        self._flush = flush
        self._wall = wall

    async def quota(self, caller: Caller, query: object) -> OwnQuota:
        """Current usage against the limits of the caller's team and key.

        Like OpenAI's API, it ignores any query.
        """
        (quota,) = await team_quotas(self._store.accounts, [caller.team], [caller.key])
        key = quota.keys[0] if quota.keys else None
        return OwnQuota(team=quota.team, limits=quota.limits, key=key)

    async def usage(self, caller: Caller, parameters: MultiMapping[str]) -> dict[str, Any]:
        """Usage of the caller's team."""
        query = read_query(parameters, TeamUsageQuery)
        start, end = read_period(query, self._wall(), most_days=MOST_DAYS)
        await self._flush()
        team = caller.team.name
        rows = await read_usage(self._store.usage, query.by, start, end, team)
        return {"team": team, "usage": rows}
