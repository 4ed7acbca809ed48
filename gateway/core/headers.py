"""Reading and writing of headers: Authorization, X-Request-Id, Content-Type and Retry-After.

Anybody may have written a header. A malformed one is ignored or refused, and never repeated.
Cache-Control has its own file, `gateway.proxy.cache_control`.
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

SHORTEST_WAIT = 1
LONGEST_WAIT = 60
"""The range of Retry-After in seconds. The SDKs ignore one above a minute."""

SPREAD = 0.2
"""The share of a wait by which it may be lengthened."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_JSON = re.compile(r"application/(?:[!#$&^_.+0-9a-z-]+\+)?json")
# Printable ASCII except blanks, both quotes and the comma.
_BEARER = re.compile(r"bearer +([!#-&(-+\-.-~]{1,200})", re.IGNORECASE | re.ASCII)
_DELTA = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


# -- what a client sends ------------------------------------------------------------------------


def bearer(values: Sequence[str]) -> str | None:
    """Return the bearer token of the Authorization headers.

    Returns None unless there is exactly one header, with the scheme Bearer and a token of 1 to 200
    printable ASCII characters without blanks, quotes and commas.
    """
    if len(values) != 1:
        return None
    match = _BEARER.fullmatch(values[0])
    return match and match[1]


def request_id(client_value: str | None, fresh: Callable[[], str]) -> str:
    """Return the client's X-Request-Id if it is safe for logs and headers, else a fresh one.

    A safe id has 1 to 128 letters, digits and characters of `._:/+=@-`. It must not contain "sk-",
    because that may be a key in the wrong header.
    """
    if client_value is None or _REQUEST_ID.fullmatch(client_value) is None:
        return fresh()
    return fresh() if "sk-" in client_value.lower() else client_value


def json_content_type(value: str | None) -> bool:
    """Whether a Content-Type is JSON in UTF-8: `application/json` or `application/*+json`.

    A charset must be utf-8. A request without the header is refused, because every OpenAI client
    sends it and the body may be a form.
    """
    if value == "application/json":
        return True  # the usual case
    kind, *parameters = (part.strip() for part in (value or "").lower().split(";"))
    charsets = [
        text.strip('"')
        for name, _, text in (parameter.partition("=") for parameter in parameters)
        if name == "charset"
    ]
    return _JSON.fullmatch(kind) is not None and set(charsets) <= {"utf-8"}


# -- what the gateway sends ---------------------------------------------------------------------


def retry_after(wait: float, spread: float) -> float:
    """Return the Retry-After for a client that may be admitted after `wait` seconds: 1 to 60.

    `spread` in [0, 1) lengthens it by up to a fifth. The SDKs add no jitter of their own, so all
    clients would retry at once.
    """
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, wait) * (1 + SPREAD * spread))


def clamp_retry_after(value: str | None, now: float) -> int | None:
    """Return the upstream's Retry-After as whole seconds from 1 to 60.

    The value may be a number or an HTTP date; `now` is the wall clock. Returns None without a
    readable value, so that the client decides how long to wait.
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
