"""A refused purchase as the error its caller reads: which limit, whose, and until when."""

from math import ceil

from gateway.core.errors import InsufficientQuota, LimitReached, RateLimited
from gateway.core.headers import retry_after
from gateway.core.key_format import PREFIX
from gateway.core.money import format_usd
from gateway.core.periods import utc
from gateway.quota.limits import Refusal


def refusal_error(refusal: Refusal, spread: float, key: str) -> LimitReached:
    """The error of a refusal. `spread` in [0, 1) keeps clients from returning all at once.

    `key` is the id of the key that asked: its limits may be kept under its line's first key.
    """
    which = f"{_owner(refusal, key)} {refusal.limit} limit of {_amount(refusal, refusal.size)}"
    whose = None if refusal.scope == "gateway" else (refusal.scope, refusal.owner)
    if refusal.wait is not None:
        seconds = retry_after(refusal.wait, spread)
        return RateLimited(
            f"{which} is reached for now{_why(refusal)}; try again in {ceil(seconds)} seconds"
            f"{_or_later(refusal)}.",
            retry_after=seconds,
            whose=whose,
        )
    if refusal.resets_at is None:
        return InsufficientQuota(
            f"{which} is smaller than this request{_asking(refusal)}.", whose=whose
        )
    state = "is used up" if _is_full(refusal) else "has too little left for this request"
    return InsufficientQuota(
        f"{which} {state}{_why(refusal)}; it resets at {utc(refusal.resets_at)}.", whose=whose
    )


def _is_full(refusal: Refusal) -> bool:
    short = refusal.shortfall
    return short is None or short.used + short.held >= refusal.size


def _why(refusal: Refusal) -> str:
    """What stands against the limit. Of the gateway's own that is other teams' business."""
    if (short := refusal.shortfall) is None:
        return ""
    parts = [f"this request {_asks(refusal, short.asked)}"]
    if refusal.scope != "gateway":
        held = f"{_amount(refusal, short.held)} held by open calls"
        parts = [f"{_amount(refusal, short.used)} used", held, *parts]
    return f" ({', '.join(parts)})"


def _asking(refusal: Refusal) -> str:
    short = refusal.shortfall
    return f", which {_asks(refusal, short.asked)}" if short is not None else ""


def _asks(refusal: Refusal, asked: int) -> str:
    verb = "may cost" if refusal.limit.endswith("_usd") else "asks for"
    return f"{verb} {_amount(refusal, asked)}"


def _or_later(refusal: Refusal) -> str:
    short = refusal.shortfall
    return f", or after it resets at {utc(short.ends)}" if short is not None else ""


def _owner(refusal: Refusal, key: str) -> str:
    match refusal.scope:
        case "key":
            return f"Key {PREFIX}{key}'s"
        case "team":
            return f"Team {refusal.owner}'s"
        case "gateway":
            return "The gateway's"


def _amount(refusal: Refusal, amount: int) -> str:
    """Images, or dollars."""
    return format_usd(amount) if refusal.limit.endswith("_usd") else str(amount)
