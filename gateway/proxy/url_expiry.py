"""How long an answer may be cached: never past the expiry of its image URLs.

Signed URLs carry their expiry in the query. Of several such values the earliest counts; without
any, the configured default counts:

- `se`: Azure, a date of ISO 8601
- `X-Amz-Date` and `X-Amz-Expires`, and the same of any other vendor: a date and seconds after it
- `Expires`, `exp`: seconds since the epoch, or milliseconds where there are 13 digits
- without any of these: any number that could be a time within the next 30 days

A `data:` URI holds its image and never expires.

A number that looks too small for a date counts as a time long past: an answer that is not cached
is better than a cached image that cannot be opened.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote

from gateway.core.periods import DAY_SECONDS

MARGIN = 0.1
"""The share of a URL's remaining life that is reserved for opening it."""

MARGIN_SECONDS = 60.0
"""The longest reserve."""

MAX_URL_CHARS = 8_192
MAX_FIELDS = 100
MAX_URLS = 100
MAX_CHARS = 32_768
"""Limits of one URL's length, of its query's fields, of the URLs of one answer, and of their length
together. What is beyond them counts as ended: it is not shown, or the answer is not cached. To read
8 KB takes up to 4 ms."""

_DATA = re.compile(r"\s*data:", re.IGNORECASE)
_EPOCH = re.compile(r"[0-9]{1,13}", re.ASCII)
_ANY_EPOCH = re.compile(r"(?<![0-9])[0-9]{10}(?:[0-9]{3})?(?![0-9])")
_DURATION = re.compile(r"[0-9]{1,10}", re.ASCII)
_VENDOR_EXPIRES = re.compile(r"x-([a-z0-9]{1,32})-expires")
_COMPACT_DATE = "%Y%m%dT%H%M%SZ"


def keep_seconds(urls: Sequence[str], now: float, ttl: float, default_life: float) -> float:
    """Return how many seconds from `now` an answer with these URLs may be cached, at most `ttl`.

    With 0 or less it must not be cached. `default_life` counts for a URL without an expiry.
    """
    links = [url for url in urls if not is_embedded(url)]
    if len(links) > MAX_URLS or sum(map(len, links)) > MAX_CHARS:
        return 0.0
    return min([ttl, *(_safe_life(url, now, default_life) for url in links)])


def is_embedded(url: str) -> bool:
    """Whether a URL is a data: URI, which holds the image."""
    return _DATA.match(url) is not None


def url_ends(urls: Sequence[str], now: float, default_life: float) -> list[float]:
    """Return when each URL ends: never for a data: URI, and at once if it takes long to read.

    `default_life` counts from `now` for one without an expiry. What an answer has beyond the limits
    ends at once, too.
    """
    ends, count, chars = list[float](), 0, 0
    for url in urls:
        if not url or is_embedded(url):
            ends.append(math.inf)
            continue
        count, chars = count + 1, chars + min(len(url), MAX_URL_CHARS)
        if count > MAX_URLS or chars > MAX_CHARS or _takes_long(url):
            ends.append(now)
            continue
        expires = _shown_expiry(url, now)
        ends.append(now + default_life if expires is None else expires)
    return ends


def _takes_long(url: str) -> bool:
    return len(url) > MAX_URL_CHARS or url.count("&") >= MAX_FIELDS


def _safe_life(url: str, now: float, default_life: float) -> float:
    if _takes_long(url):
        return 0.0
    expires = _shown_expiry(url, now)
    if expires is None:
        return default_life
    left = expires - now
    return left - min(MARGIN_SECONDS, MARGIN * left)


def _shown_expiry(url: str, now: float) -> float | None:
    expires = url_expires(url)
    return _likely_expiry(url, now) if expires is None else expires


def _likely_expiry(url: str, now: float) -> float | None:
    """Return the earliest time within the next 30 days that a number in the query could mean.

    There are many more ways to write an expiry (`x-expires`, `q-sign-time`, `auth_key`, `hdnea`).
    Caching too short is better than caching an image that cannot be opened.
    """
    query = unquote(url.partition("?")[2])
    numbers = (match[0] for match in _ANY_EPOCH.finditer(query))
    moments = (int(number) / (1000 if len(number) == 13 else 1) for number in numbers)
    return min((at for at in moments if now < at < now + 30 * DAY_SECONDS), default=None)


def url_expires(url: str) -> float | None:
    """Return the URL's expiry in seconds since the epoch, None if it has none."""
    return min(_moments(_query(url)), default=None)


def _query(url: str) -> dict[str, str]:
    """Read the query's fields, with names in lower case. Of equal names the last one counts."""
    # By hand: urllib's parser takes "+" for a blank, and copies a large data URL several times.
    text = url.partition("?")[2].partition("#")[0]
    pairs = (field.partition("=") for field in text.split("&"))
    return {unquote(name).lower(): unquote(value) for name, _, value in pairs}


def _moments(query: Mapping[str, str]) -> Iterator[float]:
    found = [_iso_date(query.get("se", ""))]
    found += [_epoch(query.get(name, "")) for name in ("expires", "exp")]
    for name, seconds in query.items():
        if vendor := _VENDOR_EXPIRES.fullmatch(name):
            found.append(_signed(query.get(f"x-{vendor[1]}-date", ""), seconds))
    return (moment for moment in found if moment is not None)


def _iso_date(text: str) -> float | None:
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=at.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def _epoch(text: str) -> float | None:
    if _EPOCH.fullmatch(text) is None:
        return None
    return int(text) / 1000 if len(text) == 13 else float(int(text))


def _signed(date: str, seconds: str) -> float | None:
    if _DURATION.fullmatch(seconds) is None:
        return None
    try:
        begins = datetime.strptime(date, _COMPACT_DATE).replace(tzinfo=UTC)
    except ValueError:
        return None
    return begins.timestamp() + int(seconds)
