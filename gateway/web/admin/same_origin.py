"""Whether a browser sent a request from a page of its own origin.

A cookie goes along whoever wrote the page that asks: SameSite=Strict keeps other sites out, but
another port of the same host is the same site. So a request that a cookie speaks for must come
from the same origin, and one that changes something must say so and carry a header that no form
can send.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

HEADER = "X-Gateway-Dashboard"
"""What the dashboard sends with every request. A page of another origin would have to ask first."""

SAFE = frozenset({"GET", "HEAD"})
_OWN = "same-origin"
_BY_HAND = "none"
"""Sec-Fetch-Site of an address that somebody typed or opened from a bookmark."""


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another origin asked. Not a browser: False."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in (_OWN, _BY_HAND)
    return "Origin" in headers and not _matches(headers["Origin"], headers.get("Host", ""))


def may_use_cookie(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a cookie may speak for a request."""
    if is_from_elsewhere(headers):
        return False
    if method in SAFE:
        return True
    site = headers.get("Sec-Fetch-Site", _OWN if "Origin" in headers else _BY_HAND)
    return site == _OWN and HEADER in headers


def is_https(headers: Mapping[str, str]) -> bool:
    """Whether the browser reached us by HTTPS, as its page's origin tells."""
    return headers.get("Origin", "").lower().startswith("https://")


def _matches(origin: str, host: str) -> bool:
    """Compares without a scheme's own port: behind a proxy with TLS only the browser knows it."""
    try:
        given, ours = urlsplit(origin), urlsplit(f"//{host}")
        ports = {port for port in (given.port, ours.port) if port not in (None, 80, 443)}
    except ValueError:
        return False
    same_port = given.port == ours.port or not ports
    return given.hostname is not None and given.hostname == ours.hostname and same_port
