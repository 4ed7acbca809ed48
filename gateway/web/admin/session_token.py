"""Sessions of the dashboard: who signed in with an admin token, as a value that a cookie holds.

Nothing is kept of a session: the cookie says whose it is and since when, signed with a key that
is made of the pepper and the digest of the token that was given. So every gateway of a store
knows it at once, there is nothing to write or to sweep, and it ends when its token or the pepper
is changed or taken out of the configuration. The price: a sign-out can take the cookie away only
from its own browser; that a copy of it is refused too is known to the gateway that was told.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from gateway.config.admin_tokens import AdminToken

LONGEST_SECONDS = 12 * 3600
"""How long a session lasts, however busy it is."""

IDLE_SECONDS = 3600
"""How long it lasts without a request."""

RENEW_SECONDS = 60
"""How old its last request may be before the cookie is written anew."""

LONGEST_COOKIE = 1_000

_PADDING = "=="
"""Enough for any base64 that has lost its own, and more than enough is passed over."""

_PURPOSE = b"gateway admin session 1\0"


class Session(Struct, frozen=True, kw_only=True, array_like=True):
    """A session. `token` is the name of its admin token; times are seconds since the epoch.

    `secure`: it began by HTTPS, so its cookie must never go another way.
    """

    token: str
    id: str
    began: float
    seen: float
    secure: bool

    @property
    def ends(self) -> float:
        """When it is over if nothing more is asked for."""
        return min(self.began + LONGEST_SECONDS, self.seen + IDLE_SECONDS)


_decoder = msgspec.json.Decoder(Session)


def write_session(session: Session, token: AdminToken, pepper: bytes) -> str:
    """The session as a cookie's value: what it says and its signature."""
    said = _text(msgspec.json.encode(session))
    return f"{said}.{_text(_signature(said, token, pepper))}"


def read_session(
    cookie: str, known: Iterable[AdminToken], pepper: bytes, now: float
) -> tuple[Session, AdminToken] | None:
    """The session in a cookie's value and its token; None for what is forged, over or garbled."""
    said, _, signature = cookie.partition(".")
    if len(cookie) > LONGEST_COOKIE or not cookie.isascii():
        return None
    try:
        session = _decoder.decode(base64.urlsafe_b64decode(said + _PADDING))
    except (ValueError, msgspec.MsgspecError):  # neither base64 nor a session
        return None
    token = next((token for token in known if token.name == session.token), None)
    if token is None:
        return None
    expected = _text(_signature(said, token, pepper))
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return None
    return (session, token) if session.began <= now < session.ends else None


def _signature(said: str, token: AdminToken, pepper: bytes) -> bytes:
    key = hmac.digest(pepper, _PURPOSE + token.digest, hashlib.sha256)
    return hmac.digest(key, said.encode(), hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
