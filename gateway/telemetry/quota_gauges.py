"""Gauges of limits and budgets, computed when Prometheus asks for them.

All gateways of a store export the same values: take the highest, never the sum. Other gateways and
the command line change the accounts, too, so the accounts of all teams are read periodically, and
reported to all listeners.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.config.live import CurrentSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.money import MICRO
from gateway.core.periods import month_of
from gateway.core.tasks import Background, Service
from gateway.quota.account import EMPTY, GATEWAY, Account, team_account
from gateway.quota.limits import limit_states
from gateway.quota.store import AccountStore
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer
from gateway.tenants.directory import Directory

READ_SECONDS = 5.0


@dataclass(eq=False)
class QuotaGauges(Service, Collector, Observer):
    """`quota_limit`, `quota_used`, `month_cost_usd` and `reservations_open`.

    Holds count as used. The accounts are the ones this process read or wrote last.
    """

    store: AccountStore
    directory: Directory
    settings: CurrentSettings
    metrics: Metrics
    observer: Observer
    wall: Callable[[], float]
    _accounts: dict[str, Account] = field(default_factory=dict)
    _background: Background = field(default_factory=lambda: Background("accounts"))

    async def start(self) -> None:
        """Read the accounts once, then periodically. Raises StoreUnavailable."""
        await self._read()
        self._background.every(READ_SECONDS, self._read, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop reading."""
        await self._background.close()

    async def _read(self) -> None:
        settings, teams = self.settings(), self.directory.teams
        self.metrics.begin_teams_at_zero(teams, settings.limits, settings.models)
        # Deleted teams may have open holds, too.
        held = [name for name, account in self._accounts.items() if account.holds]
        names = list(dict.fromkeys([GATEWAY, *map(team_account, teams), *held]))
        loaded = await self.store.load(names)
        found = [account for account, _ in loaded.accounts]
        self.observer.accounts_seen(dict(zip(names, found, strict=True)))

    def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
        """Keep the accounts."""
        self._accounts.update(accounts)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield the four families, as of now."""
        now = self.wall()
        # Copied in one go each: they go on changing, and this runs in a thread.
        teams, accounts = list(self.directory.teams.items()), self._accounts.copy()
        limit = GaugeMetricFamily("gateway_quota_limit", "A limit.", labels=["team", "limit"])
        used = GaugeMetricFamily(
            "gateway_quota_used",
            "Usage of a limit, with open reservations.",
            labels=["team", "limit"],
        )
        month = GaugeMetricFamily(
            "gateway_month_cost_usd",
            "Money charged or reserved in this month (UTC).",
            labels=["team"],
        )
        owners = [(name, team_account(name), team.limits) for name, team in teams]
        for label, account, limits in [*owners, ("", GATEWAY, self.settings().limits)]:
            for state in limit_states(accounts.get(account, EMPTY), limits, now):
                limit.add_metric([label, state.name], state.size / state.kind.scale)
                used.add_metric([label, state.name], (state.used + state.held) / state.kind.scale)
        for name, _ in teams:
            usage = accounts.get(team_account(name), EMPTY).month.roll(month_of(now))
            month.add_metric([name], (usage.cost + usage.held_cost) / MICRO)
        holds = sum(len(account.holds) for account in accounts.values())
        yield from (limit, used, month)
        yield GaugeMetricFamily("gateway_reservations_open", "Open reservations.", value=holds)
