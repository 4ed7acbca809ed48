"""Watches budgets, unknown charges and the upstream, and raises alerts.

It only notes the accounts that were written, and checks them once a second. So it waits for no
request, and no request waits for it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.config.live import CurrentSettings
from gateway.config.webhooks import Webhook
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Key
from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import Background, Service
from gateway.core.upstream_errors import UpstreamAccountExhausted, UpstreamAuth
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.quota.steps import Reserve
from gateway.reporting.alerts.delivery import Deliverer
from gateway.reporting.alerts.rules import (
    KEY_REFUSALS,
    Budget,
    BudgetOwner,
    UpstreamEvent,
    budget_alerts,
    excess_alerts,
    team_budgets,
    unknown_alerts,
    upstream_alerts,
)
from gateway.reporting.store import UsageStore
from gateway.telemetry.observer import Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory

CHECK_SECONDS = 1.0
"""The interval of checking accounts that were written."""

BUDGETS_AT_ONCE = 50
"""Budgets to check before other tasks may run: they take some tenths of a millisecond."""

UNKNOWN_SECONDS = 30.0
"""The interval of checking today's unknown charges."""


@dataclass(eq=False)
class Alerts(Service, Observer):
    """Raises alerts. `settings` returns the current settings, `wall` returns the time."""

    usage: UsageStore
    directory: Directory
    settings: CurrentSettings
    deliverer: Deliverer
    wall: Callable[[], float]
    _key_refusals: int = 0
    _seen: dict[str, Account] = field(default_factory=dict)
    _latest: tuple[int, dict[str, Key]] = (0, {})
    _background: Background = field(default_factory=lambda: Background("alerts"))

    async def start(self) -> None:
        """Start the periodic checks."""
        self._background.every(CHECK_SECONDS, self._check_budgets)
        self._background.every(UNKNOWN_SECONDS, self.check_unknown, survive=StoreUnavailable)

    async def close(self) -> None:
        """Stop. Other gateways, or this one after its next start, deliver what is left."""
        await self._background.close()
        await self.deliverer.close()

    def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
        """Note accounts that were just read or written."""
        if self.settings().alerts.webhooks:
            self._seen.update(accounts)

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """Raise an alert if the upstream refuses the gateway's key or account.

        Of the key only if it happens again: some upstreams answer 401 or 403 once for other causes.
        """
        if isinstance(failure, UpstreamAccountExhausted):
            self._upstream("upstream_account_exhausted")
        elif isinstance(failure, UpstreamAuth):
            self._key_refusals += 1
            if self._key_refusals >= KEY_REFUSALS:
                self._upstream("upstream_auth")

    def charged(self, reservation: Reserve, cost: int, *, unknown: bool, swept: bool) -> None:
        """Note a purchase that succeeded: the key works."""
        if not unknown:
            self._key_refusals = 0

    def _upstream(self, event: UpstreamEvent) -> None:
        for webhook, alert in upstream_alerts(event, self._webhooks(), self.wall()):
            self.deliverer.deliver(webhook, alert)

    def excess_delivered(self, record: RequestRecord) -> None:
        """Raise an alert that the upstream delivered more images than a request asked for."""
        if record.caller and record.request:
            team, asked = record.caller.team.name, record.request.n
            webhooks, now = self._webhooks(), self.wall()
            for webhook, alert in excess_alerts(team, asked, record.images, webhooks, now):
                self.deliverer.deliver(webhook, alert)

    async def check_unknown(self) -> None:
        """Check today's unknown charges. Raises StoreUnavailable."""
        webhooks = [hook for hook in self._webhooks() if hook.unknown_above is not None]
        if not webhooks:
            return
        now = self.wall()
        start = now // DAY_SECONDS * DAY_SECONDS
        rows = await self.usage.report(("outcome",), start, start + DAY_SECONDS)
        unknown = sum(row.cost for row in rows if row.group == ("unknown",))
        for webhook, alert in unknown_alerts(unknown, webhooks, now):
            self.deliverer.deliver(webhook, alert)

    async def _check_budgets(self) -> None:
        seen, self._seen = self._seen, {}
        webhooks, now = self._webhooks(), self.wall()
        if not webhooks:
            return
        for number, budget in enumerate(self._budgets(seen), 1):
            for webhook, alert in budget_alerts(budget, webhooks, now):
                self.deliverer.deliver(webhook, alert)
            if number % BUDGETS_AT_ONCE == 0:
                await asyncio.sleep(0)  # requests go first
        self.deliverer.forget_ended(now)

    def _budgets(self, seen: Mapping[str, Account]) -> Iterator[Budget]:
        if GATEWAY in seen:
            yield BudgetOwner(), seen[GATEWAY], self.settings().limits
        prefix = team_account("")
        for account_name, account in seen.items():
            name = account_name.removeprefix(prefix)
            team = self.directory.teams.get(name)
            if account_name.startswith(prefix) and team is not None:
                yield from team_budgets(name, team.limits, account, self._keys(account))

    def _keys(self, account: Account) -> list[tuple[str, Key]]:
        """Return the lines of keys that have counters, each with its latest key."""
        if not account.keys:
            return []
        generation, latest = self._latest
        if generation != self.directory.generation:
            keys = sorted(self.directory.keys.values(), key=lambda key: key.created)
            latest = {key.line: key for key in keys}
            self._latest = self.directory.generation, latest
        return [(line, latest[line]) for line in account.keys if line in latest]

    def _webhooks(self) -> Sequence[Webhook]:
        return list(self.settings().alerts.webhooks.values())
