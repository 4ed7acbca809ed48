"""A refused purchase as the error its caller reads: which limit, whose, and until when."""

from datetime import UTC, datetime
from math import ceil

from gateway.errors import InsufficientQuota, LimitReached, RateLimited
from gateway.rules.headers import retry_after
from gateway.rules.keys import PREFIX
from gateway.rules.limits import Refusal
from gateway.rules.money import format_usd


def refusal_error(refusal: Refusal, spread: float, key: str) -> LimitReached:
    """The error of a refusal. `spread` in [0, 1) keeps clients from returning all at once.

    `key` is the id of the key that asked: its limits may be kept under its line's first key.
    """
    which = f"{_owner(refusal, key)} {refusal.limit} limit of {_size(refusal)}"
    whose = None if refusal.scope == "gateway" else (refusal.scope, refusal.owner)
    if refusal.wait is not None:
        seconds = retry_after(refusal.wait, spread)
        return RateLimited(
            f"{which} is reached for now; try again in {ceil(seconds)} seconds.",
            retry_after=seconds,
            whose=whose,
        )
    if refusal.resets_at is None:
        return InsufficientQuota(f"{which} is smaller than this request.", whose=whose)
    resets = datetime.fromtimestamp(refusal.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return InsufficientQuota(f"{which} is used up; it resets at {resets}.", whose=whose)


def _owner(refusal: Refusal, key: str) -> str:
    match refusal.scope:
        case "key":
            return f"Key {PREFIX}{key}'s"
        case "team":
            return f"Team {refusal.owner}'s"
        case "gateway":
            return "The gateway's"


def _size(refusal: Refusal) -> str:
    return format_usd(refusal.size) if refusal.limit.endswith("_usd") else str(refusal.size)
