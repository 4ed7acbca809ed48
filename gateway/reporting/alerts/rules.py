"""Decides which alerts to raise: one for each threshold and period.

The `mark` of an alert identifies it, so that it is delivered once. The size of the limit is part
of the mark, because a raised limit needs an alert of its own.

Budget alerts count only what is spent. What is held may still be released.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from gateway.config.webhooks import Webhook
from gateway.core.key_format import PREFIX
from gateway.core.model import Key, Limits
from gateway.core.money import format_usd
from gateway.core.periods import DAY_SECONDS, HOUR_SECONDS
from gateway.quota.account import Account, Counters
from gateway.quota.limits import LimitState, budget_states

UpstreamEvent = Literal["upstream_auth", "upstream_account_exhausted"]
Event = Literal["budget_reached", UpstreamEvent, "excess_images", "unknown_charges", "test"]

KEY_REFUSALS = 2
"""After so many refusals of the gateway's key, without a purchase between, people are alerted."""

_UPSTREAM_TEXTS: Mapping[UpstreamEvent, str] = {
    "upstream_auth": "The upstream refuses the gateway's key. Nothing can be bought until the key "
    "is replaced.",
    "upstream_account_exhausted": "The gateway's account at the upstream is out of credit or "
    "inactive. Nothing can be bought until that is settled with the upstream.",
}

_NAME_CHARS = 100
_ID_DIGITS = 32


class Alert(Struct, frozen=True, kw_only=True):
    """An alert. After `ends` it may be delivered again.

    `team` is None if the alert is about all teams together. `key` is the public id of a line of
    keys. `percent` is the threshold. `used` and `limit_value` count images, or micro-dollars if
    the name of the limit ends in _usd.
    """

    event: Event
    mark: tuple[str | int, ...]
    at: float
    ends: float
    text: str
    team: str | None = None
    key: str | None = None
    limit: str | None = None
    percent: int | None = None
    used: int | None = None
    limit_value: int | None = None
    resets_at: float | None = None


class BudgetOwner(Struct, frozen=True, kw_only=True):
    """Who has a budget: all teams together, a team, or a key with its line and name."""

    team: str | None = None
    line: str | None = None
    name: str = ""

    @property
    def key(self) -> str | None:
        """The public id of the key."""
        return None if self.line is None else PREFIX + self.line

    @property
    def shown(self) -> str:
        """The owner's name in messages."""
        if self.key is not None:
            named = f' ("{plain(self.name)}")' if self.name else ""
            return f"Key {self.key}{named} of team {self.team}"
        return f"Team {self.team}" if self.team is not None else "All teams together"


Budget = tuple[BudgetOwner, Counters, Limits]


def team_budgets(
    team: str, limits: Limits, account: Account, keys: Iterable[tuple[str, Key]]
) -> Iterator[Budget]:
    """Yield a team's budget, and those of its keys that have limits and usage."""
    yield BudgetOwner(team=team), account, limits
    for line, key in keys:
        if key.limits and key.state != "revoked" and line in account.keys:
            yield BudgetOwner(team=team, line=line, name=key.name), account.keys[line], key.limits


def budget_alerts(
    budget: Budget, webhooks: Sequence[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Yield an alert for each webhook, about the highest threshold that it has reached."""
    owner, counters, limits = budget
    for state in budget_states(counters, limits, now):
        for webhook in webhooks:
            if not _receives(webhook, owner.team) or not state.size:
                continue
            reached = [
                percent
                for percent in webhook.at_percent
                if state.used * 100 >= state.size * percent
            ]
            if reached:
                yield webhook, _budget_alert(owner, state, max(reached), now)


def upstream_alerts(
    event: UpstreamEvent, webhooks: Iterable[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Yield an alert about the gateway's key or account, for each webhook for all teams."""
    hour = int(now // HOUR_SECONDS)
    alert = Alert(
        event=event,
        mark=(hour,),
        at=now,
        ends=float((hour + 1) * HOUR_SECONDS),
        text=_UPSTREAM_TEXTS[event],
    )
    return ((webhook, alert) for webhook in webhooks if _receives(webhook, None))


def excess_alerts(
    team: str, asked: int, delivered: int, webhooks: Iterable[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Yield an alert that a team got more images than it asked for, as `upstream_alerts` does."""
    hour = int(now // HOUR_SECONDS)
    alert = Alert(
        event="excess_images",
        mark=(team, hour),
        at=now,
        ends=float((hour + 1) * HOUR_SECONDS),
        text=f"The upstream delivered {delivered} images to team {team}, which asked for {asked}. "
        "All of them are charged, even above the team's limits.",
        team=team,
    )
    return ((webhook, alert) for webhook in webhooks if _receives(webhook, None))


def unknown_alerts(
    unknown: int, webhooks: Iterable[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Yield an alert for each webhook whose threshold today's unknown charges exceed."""
    day = int(now // DAY_SECONDS)
    for webhook in webhooks:
        above = webhook.unknown_above
        if above is None or unknown <= above:
            continue
        yield (
            webhook,
            Alert(
                event="unknown_charges",
                mark=(above, day),
                at=now,
                ends=float((day + 1) * DAY_SECONDS),
                text=f"Unknown charges of today (UTC) are ${format_usd(unknown)}, above "
                f"${format_usd(above)}. The delivery of these images could not be confirmed.",
                limit="unknown_above_usd",
                used=unknown,
                limit_value=above,
                resets_at=float((day + 1) * DAY_SECONDS),
            ),
        )


def trial_alert(webhook: str, now: float) -> Alert:
    """Return an alert that tests a webhook."""
    return Alert(
        event="test",
        mark=(),
        at=now,
        ends=now,
        text=f"This is a test: alerts of the image gateway's webhook {plain(webhook)} arrive here.",
    )


def alert_id(secret: bytes, webhook: str, alert: Alert) -> str:
    """Return the id of an alert's message to a webhook. It is the same from every gateway.

    `secret` belongs to the store. So gateways of another store, which may have teams of the same
    names, use other ids.
    """
    identity = msgspec.json.encode([webhook, alert.event, *alert.mark])
    digest = hmac.new(secret, b"alert\0" + identity, hashlib.sha256)
    return f"msg_{digest.hexdigest()[:_ID_DIGITS]}"


def amount(limit: str | None, number: int | None) -> int | str | None:
    """Return a number in its public form: money is dollars as decimal text."""
    if number is None or limit is None:
        return number
    return format_usd(number) if limit.endswith("_usd") else number


def plain(name: str) -> str:
    """Return a name that people chose, shortened and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in name[:_NAME_CHARS])


def _receives(webhook: Webhook, team: str | None) -> bool:
    return webhook.teams is None or team in webhook.teams


def _budget_alert(owner: BudgetOwner, state: LimitState, percent: int, now: float) -> Alert:
    ends = state.resets_at if state.resets_at is not None else now
    return Alert(
        event="budget_reached",
        mark=(owner.team or "", owner.line or "", state.name, state.size, percent, int(ends)),
        at=now,
        ends=ends,
        text=_budget_text(owner, state, ends),
        team=owner.team,
        key=owner.key,
        limit=state.name,
        percent=percent,
        used=state.used,
        limit_value=state.size,
        resets_at=ends,
    )


def _budget_text(owner: BudgetOwner, state: LimitState, ends: float) -> str:
    used, size = amount(state.name, state.used), amount(state.name, state.size)
    span = "today" if state.kind.period == "day" else f"this {state.kind.period}"
    share = (
        f"${used} of ${size} for {span}"
        if state.kind.unit == "usd"
        else f"{used} of {size} images for {span}"
    )
    verb = "have" if owner.team is None else "has"
    return (
        f"{owner.shown} {verb} used {share} ({state.used * 100 // state.size} %)."
        f" Resets {datetime.fromtimestamp(ends, UTC):%-d %b, %H:%M} UTC."
    )
