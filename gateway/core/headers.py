"""What the gateway reads from headers and says in them.

A header is text that anybody may have written: what does not look right is passed over or
refused, never repeated. Cache-Control has a file of its own, `gateway.proxy.cache_control`.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

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


# -- what the upstream is told ------------------------------------------------------------------
