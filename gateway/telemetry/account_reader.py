"""Reads all accounts periodically: other replicas and the command line change them, too."""

from gateway.config.live import CurrentSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.tasks import Background, Service
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.store import AccountStore
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observer import Observer
from gateway.telemetry.quota_gauges import QuotaCollector
from gateway.tenants.directory import Directory

READ_SECONDS = 5.0


class AccountReader(Service):
    """Reports the accounts to the observer, and the teams to the metrics."""

    def __init__(
        self,
        store: AccountStore,
        *,
        directory: Directory,
        settings: CurrentSettings,
        metrics: Metrics,
        gauges: QuotaCollector,
        observer: Observer,
    ) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        self._metrics = metrics
        self._gauges = gauges
        self._observer = observer
        self._background = Background("accounts")

    async def start(self) -> None:
        """Read once, then periodically. Raises StoreUnavailable."""
        await self._read()
        self._background.every(READ_SECONDS, self._read, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop reading."""
        await self._background.close()

    async def _read(self) -> None:
        settings, teams = self._settings(), self._directory.teams
        self._metrics.begin_teams_at_zero(teams, settings.limits, settings.models)
        # Deleted teams may have open holds, too.
        accounts = [GATEWAY, *map(team_account, teams), *self._gauges.with_holds()]
        names = list(dict.fromkeys(accounts))
        loaded = await self._store.load(names)
        found = [account for account, _ in loaded.accounts]
        self._observer.accounts_seen(dict(zip(names, found, strict=True)))
