"""The cookie of a dashboard session: its signed value, and the requests that may use it.

The gateway stores no sessions. The cookie has the name of the admin token and the times of the
session, signed with a key derived from the pepper and the token's digest. So every gateway of a
store accepts it at once, nothing has to be written or expired, and a session ends when its token or
the pepper changes. The price: signing out removes the cookie from one browser only. The gateway
that handled the sign-out refuses copies of the cookie, the others do not.

A browser sends the cookie along with requests from any page of the same site. SameSite=Strict keeps
other sites out, but another port of the same host is the same site. So a request with a cookie must
come from the same origin. A request that changes something must also prove it, by headers that no
HTML form can send.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.config.admin_tokens import AdminToken

LONGEST_SECONDS = 12 * 3600
"""The longest life of a session, even in use."""

IDLE_SECONDS = 3600
"""How long a session lasts without a request."""

RENEW_SECONDS = 60
"""The gateway writes a new cookie if the last request in it is older than this."""

SKEW_SECONDS = 5.0
"""How far the clocks of a store's gateways may differ: a session works at once on all of them."""

LONGEST_COOKIE = 1_000

HEADER = "X-Gateway-Dashboard"
"""The dashboard sends it with every request. Pages of another origin may not (CORS).

Its value is the path under which the browser reaches the dashboard, such as "/gw/" at a proxy.
"""

_PATH = re.compile(r"(?=.{1,200}\Z)/([A-Za-z0-9._~!$&'()*+=:@%-]+/)*", re.ASCII)

SAFE = frozenset({"GET", "HEAD"})
_OWN = "same-origin"
_BY_HAND = "none"
"""Sec-Fetch-Site of an address that the user typed or opened from a bookmark."""

_PADDING = "=="
"""Enough for any base64 without padding; the decoder ignores excess padding."""

_PURPOSE = b"gateway admin session 1\0"


class Session(Struct, frozen=True, kw_only=True, array_like=True):
    """A session. `token` is the name of its admin token; times are seconds since the epoch.

    `secure`: it began by HTTPS, so its cookie must never be sent over plain HTTP. `path` is what
    its cookie is for.
    """

    token: str
    id: str
    began: float
    seen: float
    secure: bool
    path: str = "/"

    @property
    def ends(self) -> float:
        """When it expires without another request."""
        return min(self.began + LONGEST_SECONDS, self.seen + IDLE_SECONDS)


class Visit(Struct, frozen=True):
    """The session and the admin token behind a request with a cookie."""

    session: Session
    token: AdminToken


_decoder = msgspec.json.Decoder(Session)


def write_session(session: Session, token: AdminToken, pepper: bytes) -> str:
    """Return the session as the value of a cookie: its fields and their signature."""
    fields = _text(msgspec.json.encode(session))
    return f"{fields}.{_text(_signature(fields, token, pepper))}"


def read_session(
    cookie: str, known: Iterable[AdminToken], pepper: bytes, now: float
) -> Visit | None:
    """Return the session of a cookie and its token, or None if it is forged, expired or broken."""
    fields, _, signature = cookie.partition(".")
    if len(cookie) > LONGEST_COOKIE or not cookie.isascii():
        return None
    # Decoded before it is verified: the key of the signature depends on the token that it names.
    try:
        session = _decoder.decode(base64.urlsafe_b64decode(fields + _PADDING))
    except (ValueError, msgspec.MsgspecError):  # neither base64 nor a session
        return None
    token = next((token for token in known if token.name == session.token), None)
    if token is None:
        return None
    expected = _text(_signature(fields, token, pepper))
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return None
    is_valid = session.began - SKEW_SECONDS <= now < session.ends
    return Visit(session, token) if is_valid else None


def _signature(fields: str, token: AdminToken, pepper: bytes) -> bytes:
    key = hmac.digest(pepper, _PURPOSE + token.digest, hashlib.sha256)
    return hmac.digest(key, fields.encode(), hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# -- the origin of a request --------------------------------------------------------------------


def is_from_elsewhere(headers: Mapping[str, str], public_url: str = "") -> bool:
    """Whether a browser reports a page of another origin. False for other clients.

    The own origins are that of the Host header and that of `public_url`, which may be "".
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in (_OWN, _BY_HAND)
    origin, own = headers.get("Origin"), urlsplit(public_url)
    if origin is None or _matches(origin, headers.get("Host", "")):
        return False
    return not (_matches(origin, own.netloc) and urlsplit(origin).scheme == own.scheme)


def may_use_cookie(method: str, headers: Mapping[str, str], public_url: str = "") -> bool:
    """Whether a request's cookie may be used."""
    if is_from_elsewhere(headers, public_url):
        return False
    if method in SAFE:
        return True
    site = headers.get("Sec-Fetch-Site", _OWN if "Origin" in headers else _BY_HAND)
    return site == _OWN and HEADER in headers


def cookie_path(headers: Mapping[str, str]) -> str:
    """Return the path that the cookie is for: the dashboard's, or all paths for other clients."""
    path = headers.get(HEADER, "")
    return path if _PATH.fullmatch(path) else "/"


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
