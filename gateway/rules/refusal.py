"""A refused purchase as the error its caller reads: which limit, whose, and until when."""

from datetime import UTC, datetime
from math import ceil

from gateway.errors import GatewayError, InsufficientQuota, RateLimited
from gateway.rules.headers import retry_after
from gateway.rules.limits import Refusal
from gateway.rules.money import format_usd


def refusal_error(refusal: Refusal, spread: float) -> GatewayError:
    """The error of a refusal. `spread` in [0, 1) keeps clients from returning all at once."""
    which = f"{_owner(refusal)} {refusal.limit} limit of {_size(refusal)}"
    if refusal.wait is not None:
        seconds = retry_after(refusal.wait, spread)
        return RateLimited(
            f"{which} is reached for now; try again in {ceil(seconds)} seconds.",
            retry_after=seconds,
        )
    if refusal.resets_at is None:
        return InsufficientQuota(f"{which} is smaller than this request.")
    resets = datetime.fromtimestamp(refusal.resets_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return InsufficientQuota(f"{which} is used up; it resets at {resets}.")


def _owner(refusal: Refusal) -> str:
    return "The gateway's" if refusal.scope == "gateway" else f"Team {refusal.owner}'s"


def _size(refusal: Refusal) -> str:
    return format_usd(refusal.size) if refusal.limit.endswith("_usd") else str(refusal.size)
