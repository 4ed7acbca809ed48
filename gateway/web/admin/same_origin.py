"""Whether a browser sent a request from a page of the gateway's own origin.

A browser sends the cookie along with requests from any page of the same site. SameSite=Strict keeps
other sites out, but another port of the same host is the same site. So a request with a cookie must
come from the same origin. A request that changes something must also prove it, by headers that no
HTML form can send.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

HEADER = "X-Gateway-Dashboard"
"""The dashboard sends it with every request. Pages of another origin may not (CORS)."""

SAFE = frozenset({"GET", "HEAD"})
_OWN = "same-origin"
_BY_HAND = "none"
"""Sec-Fetch-Site of an address that the user typed or opened from a bookmark."""


def is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    """Whether a browser reports a page of another origin. False for other clients."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in (_OWN, _BY_HAND)
    return "Origin" in headers and not _matches(headers["Origin"], headers.get("Host", ""))


def may_use_cookie(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request's cookie may be used."""
    if is_from_elsewhere(headers):
        return False
    if method in SAFE:
        return True
    site = headers.get("Sec-Fetch-Site", _OWN if "Origin" in headers else _BY_HAND)
    return site == _OWN and HEADER in headers


def is_https(headers: Mapping[str, str]) -> bool:
    """Whether the browser reached the gateway by HTTPS, according to the origin of its page."""
    return headers.get("Origin", "").lower().startswith("https://")


def _matches(origin: str, host: str) -> bool:
    """Compare without default ports: behind a TLS proxy only the browser knows the scheme."""
    try:
        given, ours = urlsplit(origin), urlsplit(f"//{host}")
        ports = {port for port in (given.port, ours.port) if port not in (None, 80, 443)}
    except ValueError:
        return False
    same_port = given.port == ours.port or not ports
    return given.hostname is not None and given.hostname == ours.hostname and same_port
