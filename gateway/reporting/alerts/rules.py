"""What people are told of, decided from what is known: an alert for each threshold and window.

An alert's `mark` says what it is once of. A limit's size is part of it: whoever raised a limit
that was nearly used up wants to hear when the new one is.

Budgets are told of by what is spent: what open calls hold may come back.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
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

Event = Literal["budget_reached", "upstream_auth", "unknown_charges", "test"]

_NAME_CHARS = 100
_ID_DIGITS = 32


class Alert(Struct, frozen=True, kw_only=True):
    """Something that people should know. `ends` is when it may be told again.

    `team` None: it is of all teams together. `key` is a key's public id, that of its line.
    `percent` is the threshold; `used` and `limit_value` count what is limited: images, or
    micro-dollars where the limit's name ends in _usd.
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


class Owner(Struct, frozen=True, kw_only=True):
    """Whose limits they are: all teams' together, a team's, or a key's (its line and name)."""

    team: str | None = None
    line: str | None = None
    name: str = ""

    @property
    def key(self) -> str | None:
        """The key's public id."""
        return None if self.line is None else PREFIX + self.line

    @property
    def shown(self) -> str:
        """What people call it."""
        if self.key is not None:
            named = f' ("{plain(self.name)}")' if self.name else ""
            return f"Key {self.key}{named} of team {self.team}"
        return f"Team {self.team}" if self.team is not None else "All teams together"


Budget = tuple[Owner, Counters, Limits]


def team_budgets(
    team: str, limits: Limits, account: Account, keys: Iterable[tuple[str, Key]]
) -> Iterator[Budget]:
    """A team's budget, and those of its keys that have limits and were used. Keys by line."""
    yield Owner(team=team), account, limits
    for line, key in keys:
        if key.limits and key.state != "revoked" and line in account.keys:
            yield Owner(team=team, line=line, name=key.name), account.keys[line], key.limits


def budget_alerts(
    budget: Budget, webhooks: Sequence[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Who is to be told that so much of a budget is used: of the highest threshold reached."""
    owner, counters, limits = budget
    for state in budget_states(counters, limits, now):
        for webhook in webhooks:
            if not _hears(webhook, owner.team) or not state.size:
                continue
            reached = [
                percent
                for percent in webhook.at_percent
                if state.used * 100 >= state.size * percent
            ]
            if reached:
                yield webhook, _budget_alert(owner, state, max(reached), now)


def upstream_alert(now: float) -> Alert:
    """The upstream refuses the gateway's key."""
    hour = int(now // HOUR_SECONDS)
    return Alert(
        event="upstream_auth",
        mark=(hour,),
        at=now,
        ends=float((hour + 1) * HOUR_SECONDS),
        text="The upstream refuses the gateway's key: nothing can be bought until that is put "
        "right.",
    )


def unknown_alerts(
    unknown: int, webhooks: Iterable[Webhook], now: float
) -> Iterator[tuple[Webhook, Alert]]:
    """Who is to be told of today's unknown charges, in micro-dollars."""
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
                f"${format_usd(above)}: nobody can tell whether the upstream drew these images.",
                limit="unknown_above_usd",
                used=unknown,
                limit_value=above,
                resets_at=float((day + 1) * DAY_SECONDS),
            ),
        )


def hears_of_upstream(webhook: Webhook) -> bool:
    """Whether it is told that the upstream refuses the key: what is not of its teams is not."""
    return _hears(webhook, None)


def trial_alert(webhook: str, now: float) -> Alert:
    """What shows that a webhook works."""
    return Alert(
        event="test",
        mark=(),
        at=now,
        ends=now,
        text=f"This is a test: alerts of the image gateway's webhook {plain(webhook)} arrive here.",
    )


def alert_id(secret: bytes, webhook: str, alert: Alert) -> str:
    """What this alert's message to this webhook is known by, whoever sends it.

    `secret` belongs to the store: gateways of another one, which may have teams of the same name,
    give other ids.
    """
    told = msgspec.json.encode([webhook, alert.event, *alert.mark])
    digest = hmac.new(secret, b"alert\0" + told, hashlib.sha256)
    return f"msg_{digest.hexdigest()[:_ID_DIGITS]}"


def amount(limit: str | None, number: int | None) -> int | str | None:
    """A number as it is told: money as dollars in decimal text."""
    if number is None or limit is None:
        return number
    return format_usd(number) if limit.endswith("_usd") else number


def plain(name: str) -> str:
    """A name that people chose, in one line and without what moves the text around it."""
    return "".join(c if c.isprintable() else "?" for c in name[:_NAME_CHARS])


def _hears(webhook: Webhook, team: str | None) -> bool:
    return webhook.teams is None or team in webhook.teams


def _budget_alert(owner: Owner, state: LimitState, percent: int, now: float) -> Alert:
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


def _budget_text(owner: Owner, state: LimitState, ends: float) -> str:
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
