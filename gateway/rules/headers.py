"""What the gateway reads from headers and says in them.

A header is text that anybody may have written: what does not look right is passed over or
refused, never repeated. Cache-Control has a file of its own, `gateway.rules.cache_control`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

from gateway import __version__
from gateway.rules.standing import Meter, Standing

SHORTEST_WAIT = 1
LONGEST_WAIT = 60
"""Seconds that a Retry-After may say. The SDKs ignore one above a minute."""

SPREAD = 0.2
"""The share of a wait by which it may be drawn out."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_JSON = re.compile(r"application/(?:[!#$&^_.+0-9a-z-]+\+)?json")
# Printable ASCII but for the blank, both quotes and the comma.
_BEARER = re.compile(r"bearer +([!#-&(-+\-.-~]{1,200})", re.IGNORECASE | re.ASCII)
_DELTA = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class CacheStatus(StrEnum):
    """The Cache-Status header (RFC 9211), from a closed set.

    REQUEST is for a client that forbade a kept answer (`no-cache`, `no-store`), BYPASS for a
    cache that is switched off.
    """

    HIT = "gateway; hit"
    MISS = "gateway; fwd=miss"
    MISS_STORED = "gateway; fwd=miss; stored"
    MISS_COLLAPSED = "gateway; fwd=miss; collapsed"
    REQUEST = "gateway; fwd=request"
    REQUEST_STORED = "gateway; fwd=request; stored"
    BYPASS = "gateway; fwd=bypass"


# -- what a client sends ------------------------------------------------------------------------


def bearer(values: Sequence[str]) -> str | None:
    """The token of the Authorization headers, given all of them.

    None unless there is exactly one, of the scheme Bearer, with a token of 1 to 200 printable
    ASCII characters without blanks, quotes and commas.
    """
    if len(values) != 1:
        return None
    match = _BEARER.fullmatch(values[0])
    return match and match[1]


def request_id(client_value: str | None, fresh: Callable[[], str]) -> str:
    """The client's X-Request-Id where it may stand in logs and headers, else a fresh one.

    It may have 1 to 128 letters, digits and characters of `._:/+=@-`, and must not hold
    "sk-", which would be a key in the wrong place.
    """
    if client_value is None or _REQUEST_ID.fullmatch(client_value) is None:
        return fresh()
    return fresh() if "sk-" in client_value.lower() else client_value


def json_content_type(value: str | None) -> bool:
    """Whether a Content-Type is JSON in UTF-8: `application/json` or `application/*+json`.

    A charset, where one is given, must be utf-8. An absent header is no JSON: every OpenAI client
    sends one, and a form sent by mistake should be told so instead of being guessed at.
    """
    if value == "application/json":
        return True  # as nearly everybody writes it
    kind, *parameters = (part.strip() for part in (value or "").lower().split(";"))
    charsets = [
        text.strip('"')
        for name, _, text in (parameter.partition("=") for parameter in parameters)
        if name == "charset"
    ]
    return _JSON.fullmatch(kind) is not None and set(charsets) <= {"utf-8"}


# -- what a client is told ----------------------------------------------------------------------


def retry_after(wait: float, spread: float) -> float:
    """The seconds to tell a client that could be admitted after `wait` seconds: 1 to 60.

    `spread` in [0, 1) draws it out by up to a fifth: the SDKs add nothing to what they are told,
    and would all return at once.
    """
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, wait) * (1 + SPREAD * spread))


def clamp_retry_after(value: str | None, now: float) -> int | None:
    """The upstream's Retry-After as whole seconds from 1 to 60, at `now` by the wall clock.

    It may be a number or an HTTP date. None where there is none or it cannot be read: the client
    then waits as long as it sees fit.
    """
    if value is None:
        return None
    seconds = float(value) if _DELTA.fullmatch(value) else _seconds_until(value, now)
    if seconds is None:
        return None
    return math.ceil(min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds)))


def _seconds_until(date: str, now: float) -> float | None:
    try:
        at = parsedate_to_datetime(date[:64])
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError):
        return None


def rate_limit_headers(standing: Standing, retry_after: float = 0.0) -> dict[str, str]:
    """x-ratelimit-{limit,remaining,reset}-{requests,images}, where there is such a limit.

    No reset is told before `retry_after`, the seconds that the same answer asks its client to
    wait: some clients go by the one, some by the other.
    """
    return {
        **_meter("requests", standing.requests, retry_after),
        **_meter("images", standing.images, retry_after),
    }


def server_timing(seconds: Mapping[str, float]) -> str:
    """The Server-Timing header (W3C Server Timing): each phase in milliseconds."""
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
    """A duration as OpenAI writes it ("350ms", "1s", "6m0s", "5h12m3s"), rounded up."""
    milliseconds = math.ceil(max(0.0, seconds) * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(math.ceil(milliseconds / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


# -- what the upstream is told ------------------------------------------------------------------


def upstream_headers(api_key: str, request_id: str) -> dict[str, str]:
    """All headers that go upstream: nothing of the client's but its request id.

    No compression: images are compressed already, and a response can be bounded as it arrives.
    """
    return {
        "Authorization": f"Bearer {api_key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"image-gateway/{__version__}",
        "X-Request-Id": request_id,
    }
