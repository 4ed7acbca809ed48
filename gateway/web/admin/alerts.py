"""Alerts in the admin API: which webhooks there are, how they do, and what they were told."""

from collections.abc import Callable, Sequence
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct
from msgspec.structs import asdict

from gateway.config.settings import Settings
from gateway.config.webhooks import Webhook, WebhookKind
from gateway.core.periods import utc
from gateway.reporting.alerts.delivery import State, Telling, tellings
from gateway.reporting.alerts.message import Body, body_of
from gateway.reporting.alerts.ports import ClaimStore
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import answer


class AlertsQuery(Struct, frozen=True, kw_only=True):
    """How many alerts at the most."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class WebhookState(Struct, frozen=True, kw_only=True):
    """One webhook. `last_error` is what went wrong at the last attempt, null where nothing did;
    `waiting` how many messages are still tried. All of it is of the last seven days.
    """

    name: str
    kind: WebhookKind
    url_shown: str
    at_percent: list[int]
    teams: list[str] | None
    last_sent_at: str | None
    last_error: str | None
    waiting: int


class SentAlert(Body, frozen=True, kw_only=True):
    """One message: what it told, to whom, and what became of it."""

    webhook: str
    state: State
    attempts: int
    last_at: str | None
    error: str | None


class AlertsPage(Struct, frozen=True, kw_only=True):
    """The webhooks that are configured, and alerts of all gateways, the latest first."""

    webhooks: list[WebhookState]
    sent: list[SentAlert]


class AdminAlerts:
    """The route to alerts. `settings` gives those in force."""

    def __init__(self, store: ClaimStore, settings: Callable[[], Settings]) -> None:
        self._store = store
        self._settings = settings

    def routes(self) -> list[AdminRoute]:
        """All of them."""
        return [
            AdminRoute(
                "GET",
                "/admin/v1/alerts",
                "Webhooks and the alerts sent to them",
                self._alerts,
                AlertsPage,
                query=AlertsQuery,
            )
        ]

    async def _alerts(self, call: AdminRequest) -> web.Response:
        found = tellings(await self._store.current())
        webhooks = self._settings().alerts.webhooks.values()
        page = AlertsPage(
            webhooks=[
                _state(webhook, [each for each in found if each.webhook == webhook.name])
                for webhook in webhooks
            ],
            sent=[_sent(telling) for telling in found[: call.query.limit]],
        )
        return answer(page)


def _state(webhook: Webhook, own: Sequence[Telling]) -> WebhookState:
    tried = sorted((each for each in own if each.last_at), key=lambda each: each.last_at or 0.0)
    sent = [each.last_at for each in tried if each.state == "sent" and each.last_at]
    return WebhookState(
        name=webhook.name,
        kind=webhook.kind,
        url_shown=webhook.shown,
        at_percent=list(webhook.at_percent),
        teams=None if webhook.teams is None else list(webhook.teams),
        last_sent_at=utc(sent[-1]) if sent else None,
        last_error=tried[-1].error if tried else None,
        waiting=sum(each.state == "waiting" for each in own),
    )


def _sent(telling: Telling) -> SentAlert:
    return SentAlert(
        **asdict(body_of(telling.alert, telling.id)),
        webhook=telling.webhook,
        state=telling.state,
        attempts=telling.attempts,
        last_at=None if telling.last_at is None else utc(telling.last_at),
        error=telling.error,
    )
