"""Delivery of alerts to webhooks: one gateway of the store delivers each alert once.

It guards against these cases:

1. *Several gateways raise the same alert.* The gateway that claims it in the store delivers it,
   and then marks the claim as done until the alert ends.
2. *The gateway with the claim dies.* Its claim ends after half a minute. The other gateways raise
   the same alert again and again, so one of them delivers it, under the same id. By that id a
   receiver recognises a message that had been delivered before.
3. *The receiver is away.* The gateway retries for a quarter of an hour, at growing intervals, and
   keeps its claim. Then it gives up for an hour.
4. *The store is away.* No gateway delivers an alert without a claim. An alert that is claimed is
   delivered.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from gateway.config.live import CurrentSettings
from gateway.config.webhooks import Webhook
from gateway.core.errors import StoreUnavailable
from gateway.core.model import Claim
from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import Background, Service, in_turns
from gateway.reporting.alerts.http import HttpWebhooks, Receipt
from gateway.reporting.alerts.message import message
from gateway.reporting.alerts.rules import Alert, alert_id
from gateway.reporting.store import ClaimStore
from gateway.telemetry.observer import NO_OBSERVER, Observer

log = structlog.get_logger(source="alerts")

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds between two attempts. Each is spread by up to a fifth, to spare the receiver."""
SPREAD = 0.2

CLAIM_SECONDS = 30.0
"""How long the claim of a dead gateway keeps the others from delivering."""
RENEW_SECONDS = 10.0

STORE_RETRY_SECONDS = 1.0
"""The interval of attempts to record the result in the store."""

GIVEN_UP_SECONDS = 3_600.0
"""How long a failed delivery is not tried again."""

SHOWN_SECONDS = 7 * DAY_SECONDS
"""The least time that a delivered alert stays listed."""

AT_ONCE = 8
"""Messages in flight to one webhook."""

State = Literal["waiting", "sent", "failed"]


class Delivery(Struct, frozen=True, kw_only=True):
    """The delivery of an alert to a webhook, as its claim records it.

    `last_at` is the time of the last attempt, and `error` its error.
    """

    webhook: str
    id: str
    alert: Alert
    state: State = "waiting"
    attempts: int = 0
    last_at: float | None = None
    error: str | None = None


_decode_delivery = msgspec.json.Decoder(Delivery)


async def deliveries(claims: Sequence[Claim]) -> list[Delivery]:
    """Return the deliveries that claims record, the latest alert first."""
    notes = (claim.note for claim in claims if claim.note)
    found = [_decode_delivery.decode(note) async for note in in_turns(notes)]
    return sorted(found, key=lambda delivery: delivery.alert.at, reverse=True)


@dataclass(eq=False)
class Deliverer(Service):
    """Delivers alerts in the background.

    `settings` returns the current settings. `secret` belongs to the store, and `owner` is this
    gateway's name among the gateways of its store. `wall` returns the time, `spread` randomness in
    [0, 1). `pauses` are the seconds between attempts.
    """

    claims: ClaimStore
    webhooks: HttpWebhooks
    settings: CurrentSettings
    secret: bytes = field(repr=False)
    owner: str
    wall: Callable[[], float]
    spread: Callable[[], float]
    pauses: Sequence[float] = PAUSES
    observer: Observer = NO_OBSERVER
    _background: Background = field(default_factory=lambda: Background("alert deliveries"))
    _quiet_until: dict[str, float] = field(default_factory=dict)
    _in_hand: set[str] = field(default_factory=set)
    # A webhook that hangs must not delay the others.
    _room: dict[str, asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
    )

    async def close(self) -> None:
        """Stop. Other gateways, or this one after its next start, deliver what is left."""
        await self._background.close()

    def deliver(self, webhook: Webhook, alert: Alert) -> None:
        """Start the delivery, unless it is done, in progress, or claimed by another gateway."""
        id = alert_id(self.secret, webhook.name, alert)
        if id in self._in_hand or self._quiet_until.get(id, 0.0) > alert.at:
            return
        self._in_hand.add(id)
        delivery = Delivery(webhook=webhook.name, id=id, alert=alert)
        self._background.spawn(self._run(delivery))

    def forget_ended(self, now: float) -> None:
        """Forget results that no longer keep an alert from being delivered."""
        for id in [id for id, until in self._quiet_until.items() if until <= now]:
            del self._quiet_until[id]

    async def _run(self, delivery: Delivery) -> None:
        try:
            await self._claim_and_send(delivery)
        finally:
            self._in_hand.discard(delivery.id)

    async def _claim_and_send(self, delivery: Delivery) -> None:
        """Claim the alert, and send it until an attempt succeeds or the last one has failed."""
        for pause in (*self.pauses, None):
            async with self._room[delivery.webhook]:
                if not await self._claim(delivery, claimed=delivery.attempts > 0):
                    return
                receipt = await self._attempt(delivery)
            if receipt is None:
                return
            delivery = replace(
                delivery,
                state="sent" if receipt.delivered else "waiting",
                attempts=delivery.attempts + 1,
                last_at=self.wall(),
                error=None if receipt.delivered else receipt.detail,
            )
            if delivery.state == "sent" or not receipt.passing or pause is None:
                await self._end(delivery)
                return
            log.warning("alert attempt failed", attempt=delivery.attempts, **_facts(delivery))
            if not await self._wait(delivery, pause * (1 + SPREAD * self.spread())):
                return

    async def _claim(self, delivery: Delivery, *, claimed: bool) -> bool:
        """Claim the alert, or extend the claim. While the store is away the answer is `claimed`."""
        note = msgspec.json.encode(delivery)
        try:
            left = await self.claims.claim(delivery.id, self.owner, CLAIM_SECONDS, note)
        except StoreUnavailable:
            return claimed
        if left is None:
            return True
        self._quiet_until[delivery.id] = self.wall() + left
        return False

    async def _attempt(self, delivery: Delivery) -> Receipt | None:
        """Send the message. Returns None if the webhook is no longer configured."""
        webhook = self.settings().alerts.webhooks.get(delivery.webhook)
        if webhook is None:
            return None
        body = message(webhook.kind, delivery.alert, delivery.id)
        receipt = await self.webhooks.send(webhook, delivery.id, body, self.wall())
        if receipt.delivered:
            self.observer.alert_ended(webhook.kind, "sent")
        return receipt

    async def _wait(self, delivery: Delivery, seconds: float) -> bool:
        """Wait and keep the claim. Returns False if another gateway has claimed the alert."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            if not await self._claim(delivery, claimed=True):
                return False
            await asyncio.sleep(min(left, RENEW_SECONDS))
        return True

    async def _end(self, delivery: Delivery) -> None:
        """Record the result in the store, so that no gateway delivers the alert again."""
        now = self.wall()
        if delivery.state == "sent":
            seconds = max(delivery.alert.ends - now, 0.0) + SHOWN_SECONDS
            log.info("alert sent", webhook=delivery.webhook, alert=delivery.alert.event)
        else:
            delivery, seconds = replace(delivery, state="failed"), GIVEN_UP_SECONDS
            webhook = self.settings().alerts.webhooks.get(delivery.webhook)
            if webhook is not None:
                self.observer.alert_ended(webhook.kind, "failed")
            log.error("alert not sent", attempts=delivery.attempts, **_facts(delivery))
        self._quiet_until[delivery.id] = now + seconds
        note = msgspec.json.encode(delivery)
        while True:  # until the result is recorded, another gateway may deliver it again
            try:
                await self.claims.complete(delivery.id, self.owner, seconds, note)
                return
            except StoreUnavailable:
                await asyncio.sleep(STORE_RETRY_SECONDS)


def _facts(delivery: Delivery) -> dict[str, str | None]:
    return {
        "webhook": delivery.webhook,
        "alert": delivery.alert.event,
        "cause": delivery.error,
    }
