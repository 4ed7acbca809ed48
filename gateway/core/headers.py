"""Reading and writing of headers: Authorization, X-Request-Id, Content-Type and Retry-After.

Anybody may have written a header. A malformed one is ignored or refused, and never repeated.
Cache-Control has its own file, `gateway.proxy.cache_control`.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

SHORTEST_WAIT = 1
LONGEST_WAIT = 59
"""The range of Retry-After in seconds. The Vercel AI SDK ignores one of a minute and more."""

SPREAD = 0.2
"""The share of a wait by which it may be lengthened."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_JSON = re.compile(r"application/(?:[!#$&^_.+0-9a-z-]+\+)?json")
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
_CHARSETS = frozenset(
    {
        *("iso-8859-1", "iso-8859-15", "latin1", "latin-1", "windows-1252", "cp1252"),
        *("utf-16", "utf-16le", "utf-16be", "utf-32", "gbk", "gb2312", "gb18030", "big5"),
        *("shift_jis", "euc-jp", "iso-2022-jp", "euc-kr", "koi8-r", "windows-1251"),
    }
)
"""Charsets that an error names."""

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


def content_type_fault(value: str | None) -> str | None:
    """Return what is wrong with a Content-Type that is not JSON in UTF-8, else None.

    JSON is `application/json` or `application/*+json`. A charset must be UTF-8 or its part
    US-ASCII. A request without the header is refused, because every OpenAI client sends it and the
    body may be a form.
    """
    if value == "application/json":
        return None  # the usual case
    kind, *parameters = (part.strip() for part in (value or "").lower().split(";"))
    if _JSON.fullmatch(kind) is None:
        return "Send the request as application/json."
    charsets = [
        text.strip('"')
        for name, _, text in (parameter.partition("=") for parameter in parameters)
        if name == "charset"
    ]
    other = next((charset for charset in charsets if charset not in _UTF8), None)
    if other is None:
        return None
    # Only known names are repeated: the text may be anything.
    return (
        f"Send the request in UTF-8, not in {other if other in _CHARSETS else 'another charset'}."
    )


# -- what the gateway sends ---------------------------------------------------------------------


def retry_after(wait: float, spread: float) -> float:
    """Return the Retry-After for a client that may be admitted after `wait` seconds: 1 to 59.

    `spread` in [0, 1) lengthens it by up to a fifth. The SDKs add no jitter of their own, so all
    clients would retry at once.
    """
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, wait) * (1 + SPREAD * spread))


def clamp_retry_after(value: str | None, milliseconds: str | None, now: float) -> float | None:
    """Return the wait that the upstream asks for, in seconds from 1 to 59.

    `value` is its Retry-After, a number or an HTTP date; `milliseconds` is its retry-after-ms,
    which goes first. `now` is the wall clock. Returns None if neither is readable, so that the
    client decides how long to wait.
    """
    if milliseconds is not None and _DELTA.fullmatch(milliseconds):
        seconds: float | None = float(milliseconds) / 1000
    elif value is not None and _DELTA.fullmatch(value):
        seconds = float(value)
    else:
        seconds = None if value is None else _seconds_until(value, now)
    return None if seconds is None else min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


def _seconds_until(date: str, now: float) -> float | None:
    try:
        at = parsedate_to_datetime(date[:64])
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError):
        return None


RETRY_COUNT = "x-stainless-retry-count"
"""The header in which OpenAI's official clients count their own retries."""


def is_marked_retry(count: str | None) -> bool:
    """Whether an official client marked a request as a retry. Anything but a number is no mark."""
    return count is not None and count.isascii() and count.isdigit() and count.strip("0") != ""
