"""The limits closest to exhaustion, as the rate-limit headers of an answer show them."""

from collections.abc import Iterable

from msgspec import Struct

from gateway.core.model import Limits
from gateway.quota.account import Account
from gateway.quota.limits import LimitState, Unit, limit_states


class Meter(Struct, frozen=True):
    """One limit: its size, what remains of it, and the seconds until it is free again."""

    limit: int
    remaining: int
    reset: float


class RateLimitStatus(Struct, frozen=True):
    """The tightest limit of purchases a minute, and of images. None if there is no such limit."""

    requests: Meter | None = None
    images: Meter | None = None


def rate_limit_status(owners: Iterable[tuple[Account, Limits]], now: float) -> RateLimitStatus:
    """Return the status under the limits of all owners. Held images count as used."""
    states = [state for owner in owners for state in limit_states(*owner, now)]
    return RateLimitStatus(_tightest(states, "requests", now), _tightest(states, "images", now))


def _tightest(states: Iterable[LimitState], unit: Unit, now: float) -> Meter | None:
    """Return the limit with the least left. Of two alike, it is the one that resets later."""
    meters = [
        Meter(state.size, state.remaining, (state.resets_at or now) - now)
        for state in states
        if state.kind.unit == unit
    ]
    return min(meters, key=lambda meter: (meter.remaining, -meter.reset), default=None)
