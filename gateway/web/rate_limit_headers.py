"""The x-ratelimit and Server-Timing headers of an answer."""

import math
from collections.abc import Mapping

from gateway.quota.limits import Meter, RateLimitStatus


def rate_limit_headers(status: RateLimitStatus, retry_after: float = 0.0) -> dict[str, str]:
    """Return x-ratelimit-{limit,remaining,reset}-{requests,images} for the limits that are set.

    No reset is below `retry_after`, the seconds that the same answer asks its client to wait:
    some clients follow one header, some the other.
    """
    return {
        **_meter("requests", status.requests, retry_after),
        **_meter("images", status.images, retry_after),
    }


def server_timing(seconds: Mapping[str, float]) -> str:
    """Return the Server-Timing header (W3C Server Timing): each phase in milliseconds."""
    return ", ".join([f"{phase};dur={time * 1000:.2f}" for phase, time in seconds.items()])


def _meter(kind: str, meter: Meter | None, retry_after: float) -> dict[str, str]:
    if meter is None:
        return {}
    return {
        f"x-ratelimit-limit-{kind}": str(meter.limit),
        f"x-ratelimit-remaining-{kind}": str(meter.remaining),
        f"x-ratelimit-reset-{kind}": _duration(max(meter.reset, retry_after)),
    }


def _duration(seconds: float) -> str:
    """Format a duration as OpenAI does ("350ms", "1s", "6m0s", "5h12m3s"), rounded up."""
    milliseconds = math.ceil(max(0.0, seconds) * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
