"""Alerts in the admin API: the webhooks with their state, and the alerts sent to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict

from gateway.config.live import CurrentSettings
from gateway.config.webhooks import Webhook, WebhookKind
from gateway.core.bounds import MOST_LISTED
from gateway.core.periods import Timestamp
from gateway.core.tasks import in_turns
from gateway.reporting.alerts.delivery import Delivery, State, deliveries
from gateway.reporting.alerts.message import Body, body_of
from gateway.reporting.store import ClaimStore
from gateway.web.admin.http import AdminRequest, AdminRoute


class AlertsQuery(Struct, frozen=True, kw_only=True):
    """The most alerts to list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100


class WebhookState(Struct, frozen=True, kw_only=True):
    """One webhook in the last seven days.

    `last_error` is the error of the last attempt, null if it succeeded. `waiting` counts messages
    that the gateway still tries to deliver.
    """

    name: str
    kind: WebhookKind
    url_shown: str
    at_percent: tuple[int, ...]
    teams: tuple[str, ...] | None
    last_sent_at: Timestamp | None
    last_error: str | None
    waiting: int


class SentAlert(Body, frozen=True, kw_only=True):
    """One message, its webhook and the state of its delivery."""

    webhook: str
    state: State
    attempts: int
    last_at: Timestamp | None
    error: str | None


class AlertsPage(Struct, frozen=True, kw_only=True):
    """The configured webhooks, and the alerts of all gateways, the latest first."""

    webhooks: list[WebhookState]
    sent: list[SentAlert]


@dataclass(frozen=True)
class AdminAlerts:
    """The route of webhooks and alerts."""

    store: ClaimStore
    settings: CurrentSettings

    @AdminRoute("GET", "/alerts", "Webhooks and the alerts sent to them", query=AlertsQuery)
    async def _alerts(self, call: AdminRequest) -> AlertsPage:
        found = await deliveries(await self.store.current())
        by_webhook: dict[str, list[Delivery]] = {}
        for delivery in found:
            by_webhook.setdefault(delivery.webhook, []).append(delivery)
        webhooks = self.settings().alerts.webhooks.values()
        return AlertsPage(
            webhooks=[_state(webhook, by_webhook.get(webhook.name, ())) for webhook in webhooks],
            sent=[_sent(delivery) async for delivery in in_turns(found[: call.query.limit])],
        )


def _state(webhook: Webhook, own: Sequence[Delivery]) -> WebhookState:
    tried = sorted((each for each in own if each.last_at), key=lambda each: each.last_at or 0.0)
    sent = [each.last_at for each in tried if each.state == "sent" and each.last_at]
    return WebhookState(
        name=webhook.name,
        kind=webhook.kind,
        url_shown=webhook.shown,
        at_percent=webhook.at_percent,
        teams=webhook.teams,
        last_sent_at=sent[-1] if sent else None,
        last_error=tried[-1].error if tried else None,
        waiting=sum(each.state == "waiting" for each in own),
    )


def _sent(delivery: Delivery) -> SentAlert:
    own = ("webhook", "state", "attempts", "last_at", "error")
    state = {name: getattr(delivery, name) for name in own}
    return SentAlert(**asdict(body_of(delivery.alert, delivery.id)), **state)
