"""Who calls the admin API: by an admin token, or by the cookie of a dashboard session.

Signing in exchanges an admin token for a cookie with the token's role.
`gateway.web.admin.session_cookie` has the format of the cookie and the rules for accepting it. The
cookie is for this host alone, hidden from scripts, and marked Secure if the browser used HTTPS.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from msgspec.structs import replace

from gateway.config.admin_tokens import LONGEST, AdminToken, find
from gateway.config.settings import AdminSettings
from gateway.core.errors import (
    ForeignOrigin,
    GatewayError,
    InvalidRequest,
    NotAdmin,
    RateLimited,
    ViewerOnly,
)
from gateway.core.headers import bearer, retry_after
from gateway.web.admin.http import HEADERS, AdminRequest, AdminRoute, answer, read_json
from gateway.web.admin.session_cookie import (
    LONGEST_SECONDS,
    RENEW_SECONDS,
    Session,
    Visit,
    is_from_elsewhere,
    is_https,
    may_use_cookie,
    read_session,
    write_session,
)
from gateway.web.admin.throttle import AddressThrottle, Throttle

log = structlog.get_logger(source="admin")

PATH = "/session"
COOKIE = "gateway_session"
MOST_ENDED = 10_000
"""How many ended sessions are remembered."""


@dataclass(eq=False)
class Sessions:
    """Authenticates requests, and begins and ends sessions. `admin` returns the current tokens.

    `wall` is the time in seconds since the epoch; `clock` counts seconds and never runs backwards.
    """

    admin: Callable[[], AdminSettings]
    pepper: bytes
    wall: Callable[[], float]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._by_address = AddressThrottle(self.clock)
        self._overall = Throttle(self.clock)
        self._bearer = Throttle(self.clock)
        self._ended = dict[str, float]()

    def visit(self, request: web.BaseRequest) -> Visit | None:
        """Return the session of a request, or None without a valid cookie.

        A bearer token takes precedence. Raises ForeignOrigin if the cookie must not be used.
        """
        cookie = request.cookies.get(COOKIE)
        if cookie is None or "Authorization" in request.headers:
            return None
        visit = read_session(cookie, self.admin().all_tokens, self.pepper, self.wall())
        if visit is None or visit.session.id in self._ended:
            return None
        if not may_use_cookie(request.method, request.headers):
            raise ForeignOrigin
        return visit

    def authenticate(self, request: web.BaseRequest) -> AdminToken:
        """Return the admin token of the Authorization header.

        Raises NotAdmin for a missing or wrong token, RateLimited after too many wrong ones.
        """
        sent = bearer(request.headers.getall("Authorization", ()))
        if sent is None:
            raise NotAdmin
        token = find(sent, self.admin().all_tokens)
        if token is None:
            raise _wrong_token(self._bearer, "wrong admin token")
        return token

    def renew(self, visit: Visit, response: web.StreamResponse) -> None:
        """Extend the session's idle time, at most once a minute."""
        now = self.wall()
        # A report in pieces has sent its headers already, and so cannot set a cookie.
        if response.prepared or now - visit.session.seen < RENEW_SECONDS:
            return
        if visit.session.id not in self._ended:
            self._set_cookie(replace(visit.session, seen=now), visit.token, response)

    @AdminRoute("GET", PATH, "Who is signed in", is_open=True)
    async def _who(self, call: AdminRequest) -> web.Response:
        visit = self.visit(call.request)
        if visit is None:
            raise NotAdmin
        response = answer(_shown(visit.token))
        self.renew(visit, response)
        return response

    @AdminRoute("POST", PATH, "Sign in", is_open=True)
    async def _sign_in(self, call: AdminRequest) -> web.Response:
        request = call.request
        if is_from_elsewhere(request.headers):
            raise ForeignOrigin
        address = request.remote or ""
        token = self._check(await _read_token(request), address)
        now, secure = self.wall(), is_https(request.headers) or request.secure
        session = Session(
            token=token.name, id=secrets.token_hex(16), began=now, seen=now, secure=secure
        )
        response = answer(_shown(token))
        self._set_cookie(session, token, response)
        log.info("signed in", token=token.name, role=token.role, address=address)
        return response

    @AdminRoute("DELETE", PATH, "Sign out", is_open=True)
    async def _sign_out(self, call: AdminRequest) -> web.Response:
        request = call.request
        if is_from_elsewhere(request.headers):
            raise ForeignOrigin
        if (visit := self.visit(request)) is not None:
            self._end(visit.session)
            log.info("signed out", token=visit.token.name)
        headers = {name: value for name, value in HEADERS.items() if name != "Content-Type"}
        response = web.Response(status=204, headers=headers)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response

    def _check(self, sent: str, address: str) -> AdminToken:
        """Return the admin token, or count a wrong one. Raises NotAdmin or RateLimited.

        Nothing is awaited in between, so that tokens sent at the same time are counted one by one.
        """
        if (wait := self._by_address.wait(address)) is not None:
            raise _too_many(wait)
        token = find(sent, self.admin().all_tokens)
        if token is None:
            self._by_address.fail(address)
            raise _wrong_token(self._overall, "wrong admin token at sign-in", address=address)
        return token

    def _set_cookie(
        self, session: Session, token: AdminToken, response: web.StreamResponse
    ) -> None:
        response.set_cookie(
            COOKIE,
            write_session(session, token, self.pepper),
            path="/",
            max_age=int(session.ends - session.seen),
            httponly=True,
            samesite="Strict",
            secure=session.secure,
        )

    def _end(self, session: Session) -> None:
        """Refuse the session's cookie until it would expire."""
        now = self.wall()
        for id in [id for id, until in self._ended.items() if until <= now]:
            del self._ended[id]
        if len(self._ended) >= MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session.id] = session.began + LONGEST_SECONDS


async def _read_token(request: web.BaseRequest) -> str:
    """Read the token from a body `{"token": "..."}`. Raises InvalidRequest."""
    body = await read_json(request)
    token = body.get("token")
    if set(body) != {"token"} or not isinstance(token, str) or len(token) > LONGEST:
        raise InvalidRequest(
            'Send the admin token as {"token": "..."}.', param="token", code="invalid_fields"
        )
    return token


def _shown(token: AdminToken) -> dict[str, Any]:
    return {"who": token.name, "role": token.role}


def _wrong_token(throttle: Throttle, event: str, **fields: str) -> GatewayError:
    """Count a wrong token, and return the error for it. The first ones are logged."""
    if (wait := throttle.fail()) is not None:
        return _too_many(wait)
    log.warning(event, **fields)
    return NotAdmin()


def _too_many(wait: float) -> RateLimited:
    return RateLimited("Too many wrong admin tokens were sent.", retry_after=retry_after(wait, 0.0))


def require_role(token: AdminToken, route: AdminRoute) -> None:
    """Raise ViewerOnly if the token's role does not allow the route."""
    if token.role != "admin" and not route.is_safe:
        raise ViewerOnly
