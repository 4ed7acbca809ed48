"""Telling people: what is noticed here is told once by one of the gateways of a store.

Accounts that were written are only noted; once a second those are looked at. Nothing of this waits
for a request, and no request waits for it.

What it guards against:

1. *Many gateways notice the same.* Whoever claims it in the store tells it; then it is marked
   there as told, until its window ends.
2. *The one that claimed it dies.* Its claim ends half a minute later; the others notice the same
   again and again, so one of them tells it then, under the same id. A message that had been sent
   already is known by that.
3. *The receiver is away.* It is tried again, later and later, for a quarter of an hour; then it is
   left alone for an hour. The claim is kept up meanwhile.
4. *The store is away.* Nothing is told that is not claimed. What was claimed is told.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from gateway.config.settings import Settings
from gateway.config.webhooks import Webhook
from gateway.core.errors import StoreUnavailable, UpstreamAuth
from gateway.core.model import Claim, Key
from gateway.core.periods import DAY_SECONDS
from gateway.core.tasks import Background, Service
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.reporting.alerts.message import message
from gateway.reporting.alerts.ports import ClaimStore, Receipt, Webhooks
from gateway.reporting.alerts.rules import (
    Alert,
    Budget,
    Owner,
    alert_id,
    budget_alerts,
    hears_of_upstream,
    team_budgets,
    unknown_alerts,
    upstream_alert,
)
from gateway.reporting.store import UsageStore
from gateway.telemetry.observer import NO_OBSERVER, Observer
from gateway.telemetry.request_record import RequestRecord
from gateway.tenants.directory import Directory

log = structlog.get_logger(source="alerts")

LOOK_SECONDS = 1.0
"""How often the accounts that were written are looked at."""

BUDGETS_AT_ONCE = 50
"""How many are looked at in one go: some tenths of a millisecond."""

UNKNOWN_SECONDS = 30.0
"""How often today's unknown charges are."""

PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds between two attempts, and up to a fifth more: receivers must not be hit all at once."""
SPREAD = 0.2

CLAIM_SECONDS = 30.0
"""How long a gateway that is not heard of any more keeps others from telling."""
RENEW_SECONDS = 10.0

AGAIN_SECONDS = 1.0
"""Until the store is asked again to note what came of it."""

GIVEN_UP_SECONDS = 3_600.0
"""How long what could not be told is left alone."""

SHOWN_SECONDS = 7 * DAY_SECONDS
"""How long it is known what was told, at least."""

AT_ONCE = 8
"""Messages that are sent at the same time."""

State = Literal["waiting", "sent", "failed"]


class Telling(Struct, frozen=True, kw_only=True):
    """How far an alert has got: what is noted in its claim. `last_at` is the last attempt's time,
    and `error` what went wrong there.
    """

    webhook: str
    id: str
    alert: Alert
    state: State = "waiting"
    attempts: int = 0
    last_at: float | None = None
    error: str | None = None


_decode_telling = msgspec.json.Decoder(Telling)


def tellings(claims: Sequence[Claim]) -> list[Telling]:
    """What the claims note, the latest alert first."""
    found = [_decode_telling.decode(claim.note) for claim in claims if claim.note]
    return sorted(found, key=lambda telling: telling.alert.at, reverse=True)


class Alerts(Service, Observer):
    """Notices what people should know, and tells them.

    `settings` gives those in force; `secret` belongs to the store; `owner` is this gateway's name
    among those of its store; `wall` tells the time, `spread` gives randomness in [0, 1). `pauses`
    are the seconds between attempts.
    """

    def __init__(
        self,
        claims: ClaimStore,
        usage: UsageStore,
        webhooks: Webhooks,
        directory: Directory,
        settings: Callable[[], Settings],
        *,
        secret: bytes,
        owner: str,
        wall: Callable[[], float],
        spread: Callable[[], float],
        pauses: Sequence[float] = PAUSES,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._claims = claims
        self._usage = usage
        self._webhooks = webhooks
        self._directory = directory
        self._settings = settings
        self._observer = observer
        self._secret = secret
        self._owner = owner
        self._wall = wall
        self._spread = spread
        self._pauses = pauses
        self._seen: dict[str, Account] = {}
        self._quiet_until: dict[str, float] = {}
        self._telling: set[str] = set()
        self._lines: tuple[int, dict[str, Key]] = (0, {})
        # One that hangs must not hold up the others.
        self._room = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))
        self._background = Background("alerts")

    async def start(self) -> None:
        """Look at what is noticed, from now on."""
        self._background.every(LOOK_SECONDS, self._look)
        self._background.every(UNKNOWN_SECONDS, self.look_at_unknown, survive=StoreUnavailable)

    async def close(self) -> None:
        """Leave what is not told yet to the other gateways, or to the next start."""
        await self._background.close()

    # -- noticing -------------------------------------------------------------------------------

    def accounts_seen(self, accounts: Mapping[str, Account]) -> None:
        """Note accounts just read or written."""
        if self._settings().alerts.webhooks:
            self._seen.update(accounts)

    def purchase_failed(self, record: RequestRecord, failure: Exception) -> None:
        """Note how a call upstream failed."""
        if isinstance(failure, UpstreamAuth):
            alert = upstream_alert(self._wall())
            for webhook in self._settings().alerts.webhooks.values():
                if hears_of_upstream(webhook):
                    self._begin(webhook, alert)

    async def _look(self) -> None:
        seen, self._seen = self._seen, {}
        webhooks, now = list(self._settings().alerts.webhooks.values()), self._wall()
        if not webhooks:
            return
        for number, budget in enumerate(self._budgets(seen), 1):
            for webhook, alert in budget_alerts(budget, webhooks, now):
                self._begin(webhook, alert)
            if number % BUDGETS_AT_ONCE == 0:
                await asyncio.sleep(0)  # requests go first
        over = [id for id, until in self._quiet_until.items() if until <= now]
        for id in over:
            del self._quiet_until[id]

    def _budgets(self, seen: Mapping[str, Account]) -> Iterator[Budget]:
        if GATEWAY in seen:
            yield Owner(), seen[GATEWAY], self._settings().limits
        teams = self._directory.teams
        for name in _teams_of(seen):
            account, team = seen.get(team_account(name)), teams.get(name)
            if account is not None and team is not None:
                keys = self._keys(account)
                yield from team_budgets(name, team.limits, account, keys)

    def _keys(self, account: Account) -> list[tuple[str, Key]]:
        """The latest keys of the lines that have counters."""
        if not account.keys:
            return []
        generation, lines = self._lines
        if generation != self._directory.generation:
            keys = sorted(self._directory.keys.values(), key=lambda key: key.created)
            lines = {key.line: key for key in keys}
            self._lines = self._directory.generation, lines
        return [(line, lines[line]) for line in account.keys if line in lines]

    async def look_at_unknown(self) -> None:
        """Notice today's unknown charges. Raises StoreUnavailable."""
        webhooks = [
            webhook
            for webhook in self._settings().alerts.webhooks.values()
            if webhook.unknown_above is not None
        ]
        if not webhooks:
            return
        now = self._wall()
        start = now // DAY_SECONDS * DAY_SECONDS
        rows = await self._usage.report(("outcome",), start, start + DAY_SECONDS)
        unknown = sum(row.cost for row in rows if row.group == ("unknown",))
        for webhook, alert in unknown_alerts(unknown, webhooks, now):
            self._begin(webhook, alert)

    # -- telling --------------------------------------------------------------------------------

    def _begin(self, webhook: Webhook, alert: Alert) -> None:
        """Tell it, unless it is known to be told, or somebody's to tell."""
        id = alert_id(self._secret, webhook.name, alert)
        if id in self._telling or self._quiet_until.get(id, 0.0) > alert.at:
            return
        self._telling.add(id)
        self._background.spawn(self._tell(Telling(webhook=webhook.name, id=id, alert=alert)))

    async def _tell(self, telling: Telling) -> None:
        try:
            await self._see_through(telling)
        finally:
            self._telling.discard(telling.id)

    async def _see_through(self, telling: Telling) -> None:
        """Claim it, and try until it is told or there is no hope."""
        for pause in (*self._pauses, None):
            async with self._room[telling.webhook]:
                if not await self._claimed(telling, sure=telling.attempts == 0):
                    return
                receipt = await self._attempt(telling)
            if receipt is None:
                return
            telling = self._after(telling, receipt)
            if telling.state == "sent" or not receipt.passing or pause is None:
                await self._end(telling)
                return
            _log_attempt(telling)
            if not await self._wait(telling, pause * (1 + SPREAD * self._spread())):
                return

    async def _claimed(self, telling: Telling, *, sure: bool) -> bool:
        """Whether it is this gateway's to tell. While the store is away that stays as it was."""
        note = msgspec.json.encode(telling)
        try:
            left = await self._claims.claim(telling.id, self._owner, CLAIM_SECONDS, note)
        except StoreUnavailable:
            return not sure
        if left is None:
            return True
        self._quiet_until[telling.id] = self._wall() + left
        return False

    async def _attempt(self, telling: Telling) -> Receipt | None:
        """Send it; None where the webhook is not configured any more."""
        webhook = self._settings().alerts.webhooks.get(telling.webhook)
        if webhook is None:
            return None
        body = message(webhook.kind, telling.alert, telling.id)
        receipt = await self._webhooks.send(webhook, telling.id, body, self._wall())
        if receipt.delivered:
            self._observer.alert_ended(webhook.kind, "sent")
        return receipt

    def _after(self, telling: Telling, receipt: Receipt) -> Telling:
        return replace(
            telling,
            state="sent" if receipt.delivered else "waiting",
            attempts=telling.attempts + 1,
            last_at=self._wall(),
            error=None if receipt.delivered else receipt.told,
        )

    async def _wait(self, telling: Telling, seconds: float) -> bool:
        """Wait and keep the claim up; False where it is another's by then."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while (left := until - clock()) > 0:
            if not await self._claimed(telling, sure=False):
                return False
            await asyncio.sleep(min(left, RENEW_SECONDS))
        return True

    async def _end(self, telling: Telling) -> None:
        """Note in the store what came of it, so that nobody tells it again."""
        now = self._wall()
        if telling.state == "sent":
            seconds = max(telling.alert.ends - now, 0.0) + SHOWN_SECONDS
            log.info("alert sent", webhook=telling.webhook, alert=telling.alert.event)
        else:
            telling, seconds = replace(telling, state="failed"), GIVEN_UP_SECONDS
            self._count_failure(telling)
        self._quiet_until[telling.id] = now + seconds
        note = msgspec.json.encode(telling)
        while True:  # until it is known, others may tell it again
            try:
                await self._claims.complete(telling.id, self._owner, seconds, note)
                return
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_SECONDS)

    def _count_failure(self, telling: Telling) -> None:
        webhook = self._settings().alerts.webhooks.get(telling.webhook)
        if webhook is not None:
            self._observer.alert_ended(webhook.kind, "failed")
        log.error(
            "alert not sent",
            webhook=telling.webhook,
            alert=telling.alert.event,
            attempts=telling.attempts,
            cause=telling.error,
        )


def _log_attempt(telling: Telling) -> None:
    log.warning(
        "alert attempt failed",
        webhook=telling.webhook,
        alert=telling.alert.event,
        attempt=telling.attempts,
        cause=telling.error,
    )


def _teams_of(seen: Mapping[str, Account]) -> Iterator[str]:
    prefix = team_account("")
    return (name.removeprefix(prefix) for name in seen if name.startswith(prefix))
