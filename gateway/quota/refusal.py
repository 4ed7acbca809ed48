"""Decides which limit refuses a purchase, for how long, and how the caller reads it.

Held images count as used. Held money may come back, because a purchase can cost less than its hold:
so it makes a caller wait instead of sending it away until the period ends.
"""

from collections.abc import Sequence
from math import ceil
from typing import Literal

from msgspec import Struct

from gateway.core.errors import InsufficientQuota, LimitReached, RateLimited
from gateway.core.headers import retry_after
from gateway.core.key_format import public_id
from gateway.core.model import Limits, RefusedBy
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.quota.account import Account
from gateway.quota.limits import REQUESTS_PER_MINUTE, LimitState, limit_states, minute_wait

RETRY_SECONDS = 10.0
"""The suggested wait if only the end of another purchase frees room: nobody knows when that is."""

Scope = Literal["gateway", "team", "key"]


class LimitOwner(Struct, frozen=True):
    """Who has the limits. A key's `name` is its line, and its account is part of the team's."""

    scope: Scope
    name: str
    account: Account
    limits: Limits


class Refusal(Struct, frozen=True, kw_only=True):
    """A limit that refuses a request, which asks for up to `asked` units of it.

    The request may pass after `wait` seconds, or once the limit resets at `resets_at`. If both
    are None it can never pass, because it alone exceeds the limit.
    """

    scope: Scope
    owner: str
    state: LimitState
    asked: int
    wait: float | None = None
    resets_at: float | None = None

    @property
    def limit(self) -> str:
        """The name of the limit."""
        return self.state.name


def first_refusal(
    owners: Sequence[LimitOwner], images: int, cost: int, now: float
) -> Refusal | None:
    """Return the refusal that decides, or None if every limit admits the request.

    A lasting refusal comes before a passing one, and among equals the longer one decides. So the
    caller learns when the request can really be admitted.
    """
    asked_by_unit = {"images": images, "usd": cost}
    refusals = []
    for owner in owners:
        for state in limit_states(owner.account, owner.limits, now):
            asked = asked_by_unit.get(state.kind.unit, 1)
            if state.used + state.held + asked > state.size:
                refusals.append(_refusal(owner, state, asked, now))
    return max(refusals, key=_severity, default=None)


def _severity(refusal: Refusal) -> tuple[int, float]:
    if refusal.wait is not None:
        return (0, refusal.wait)
    if refusal.resets_at is not None:
        return (1, refusal.resets_at)
    return (2, 0.0)


def _refusal(owner: LimitOwner, state: LimitState, asked: int, now: float) -> Refusal:
    kind, wait, resets_at = state.kind, None, None
    if asked > state.size:
        pass  # the request alone exceeds the limit: it can never pass
    elif kind.unit == "images" or (kind.unit == "usd" and state.used + asked > state.size):
        resets_at = state.resets_at
    elif kind is REQUESTS_PER_MINUTE:
        wait = minute_wait(owner.account, state.size, now)
    else:
        wait = RETRY_SECONDS
    return Refusal(
        scope=owner.scope,
        owner=owner.name,
        state=state,
        asked=asked,
        wait=wait,
        resets_at=resets_at,
    )


# -- the error that the caller reads ------------------------------------------------------------


def refusal_error(refusal: Refusal, spread: float, key: str) -> LimitReached:
    """Return the error of a refusal. `spread` in [0, 1) keeps clients from retrying all at once.

    `key` is the id of the key that asked. Limits of keys are kept under the line's first key.
    """
    state = refusal.state
    which = f"{_owner(refusal, key)} {state.name} limit of {_amount(state, state.size)}"
    whose = None if refusal.scope == "gateway" else (refusal.scope, refusal.owner)
    by = refused_by(refusal)
    if refusal.wait is not None:
        seconds = retry_after(refusal.wait, spread)
        return RateLimited(
            f"{which} is reached for now{_usage(refusal)}; try again in {ceil(seconds)} seconds"
            f"{_or_later(state)}.",
            retry_after=seconds,
            whose=whose,
            refused_by=by,
        )
    if refusal.resets_at is None:
        request = f", which {_asks(refusal)}" if state.kind.period else ""
        message = f"{which} is smaller than this request{request}."
        return InsufficientQuota(message, whose=whose, refused_by=by)
    full = state.remaining == 0
    status = "is used up" if full else "has too little left for this request"
    message = f"{which} {status}{_usage(refusal)}; it resets at {utc(refusal.resets_at)}."
    return InsufficientQuota(message, whose=whose, refused_by=by)


def refused_by(refusal: Refusal) -> RefusedBy:
    """Return a refusal's limit as logs and the request history show it."""
    state, scope, owner = refusal.state, refusal.scope, refusal.owner
    shown = format_usd if state.kind.unit == "usd" else int
    return RefusedBy(
        scope=scope,
        owner=public_id(owner) if scope == "key" else owner or None,
        limit=state.name,
        size=shown(state.size),
        used=shown(state.used),
        held=shown(state.held),
        asked=shown(refusal.asked),
        resets_at=state.resets_at,
        wait_seconds=None if refusal.wait is None else round(refusal.wait, 1),
    )


def _usage(refusal: Refusal) -> str:
    """Return the usage of a budget. Of the gateway's, a team must not see how much others use."""
    state = refusal.state
    if state.kind.period is None:
        return ""
    parts = [f"this request {_asks(refusal)}"]
    if refusal.scope != "gateway":
        held = f"{_amount(state, state.held)} reserved by open calls"
        parts = [f"{_amount(state, state.used)} used", held, *parts]
    return f" ({', '.join(parts)})"


def _asks(refusal: Refusal) -> str:
    verb = "may cost" if refusal.state.kind.unit == "usd" else "asks for"
    return f"{verb} {_amount(refusal.state, refusal.asked)}"


def _or_later(state: LimitState) -> str:
    if state.kind.period is None or state.resets_at is None:
        return ""
    return f", or after it resets at {utc(state.resets_at)}"


def _owner(refusal: Refusal, key: str) -> str:
    match refusal.scope:
        case "key":
            return f"Key {public_id(key)}'s"
        case "team":
            return f"Team {refusal.owner}'s"
        case "gateway":
            return "The gateway's"


def _amount(state: LimitState, amount: int) -> str:
    return format_usd(amount) if state.kind.unit == "usd" else str(amount)
