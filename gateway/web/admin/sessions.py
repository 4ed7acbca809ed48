"""Who calls the admin API: by an admin token, or by the cookie of a dashboard session.

Signing in exchanges an admin token for a cookie with the token's role.
`gateway.web.admin.session_cookie` has the format of the cookie and the rules for accepting it. The
cookie is for this host and the dashboard's path, hidden from scripts, and marked Secure if the
browser used HTTPS.

A wrong token may have to wait for its answer (`gateway.web.admin.throttle`), the right one never
does. A wrong cookie needs no throttle: its signature has 256 bits, and its refusal costs no more
than that of a request without any.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from msgspec.structs import replace

from gateway.config.admin_tokens import LONGEST, AdminToken, find
from gateway.config.settings import AdminSettings
from gateway.core.admin_errors import ForeignOrigin, NotAdmin, ViewerOnly
from gateway.core.errors import InvalidRequest, RateLimited
from gateway.core.headers import bearer, retry_after
from gateway.telemetry.observer import NO_OBSERVER, Observer, TokenWay
from gateway.web.admin.http import HEADERS, AdminRequest, AdminRoute, answer, read_json
from gateway.web.admin.session_cookie import (
    LONGEST_SECONDS,
    RENEW_SECONDS,
    Session,
    Visit,
    cookie_path,
    is_from_elsewhere,
    is_https,
    may_use_cookie,
    read_session,
    write_session,
)
from gateway.web.admin.throttle import SIGN_IN, Pace, Throttle

log = structlog.get_logger(source="admin")

PATH = "/session"
COOKIE = "gateway_session"
MOST_ENDED = 10_000
"""How many ended sessions are remembered."""

MOST_WAITING = 1_000
"""How many answers to wrong tokens may be delayed at a time: each holds a connection and some 10
KB. Beyond that, the answer goes at once and ends the connection."""

MOST_SIGN_IN_BYTES = 4_096
"""The limit of a sign-in's body: anybody may send one."""

LINES_BURST = 10
LINES_SECONDS_EACH = 6.0
"""Log lines about wrong tokens: so many at once, then one every so many seconds."""


@dataclass(eq=False)
class Sessions:
    """Authenticates requests, and begins and ends sessions. `admin` returns the current tokens.

    `wall` is the time in seconds since the epoch; `clock` counts seconds and never runs backwards.
    `public_url` returns the URL of the dashboard behind a proxy, or "".
    """

    admin: Callable[[], AdminSettings]
    pepper: bytes
    wall: Callable[[], float]
    clock: Callable[[], float]
    observer: Observer = NO_OBSERVER
    public_url: Callable[[], str] = str

    def __post_init__(self) -> None:
        self._throttle = Throttle(self.clock)
        self._waiting = 0
        self._lines = Pace(LINES_BURST, LINES_SECONDS_EACH)
        self._unlogged = 0
        self._ended = dict[str, float]()

    def visit(self, request: web.BaseRequest) -> Visit | None:
        """Return the session of a request, or None without a valid cookie.

        A bearer token takes precedence. Raises ForeignOrigin if the cookie must not be used.
        """
        if "Authorization" in request.headers:
            return None
        tokens, now = self.admin().all_tokens, self.wall()
        visits = (read_session(text, tokens, self.pepper, now) for text in _cookies(request))
        visit = next((one for one in visits if one and one.session.id not in self._ended), None)
        if visit is None:
            return None
        if not may_use_cookie(request.method, request.headers, self.public_url()):
            raise ForeignOrigin
        return visit

    async def authenticate(self, request: web.BaseRequest) -> AdminToken:
        """Return the admin token of the Authorization header.

        Raises NotAdmin for a missing or wrong token, RateLimited after too many wrong ones.
        """
        values = request.headers.getall("Authorization", ())
        if not values:
            raise NotAdmin
        return await self._check(bearer(values), request, "bearer")

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
        if is_from_elsewhere(request.headers, self.public_url()):
            raise ForeignOrigin
        token = await self._check(await _read_token(call), request, "sign_in")
        now, secure = self.wall(), is_https(request.headers) or request.secure
        session = Session(
            token=token.name,
            id=secrets.token_hex(16),
            began=now,
            seen=now,
            secure=secure,
            path=cookie_path(request.headers),
        )
        response = answer(_shown(token))
        self._set_cookie(session, token, response)
        log.info("signed in", token=token.name, role=token.role, address=request.remote or "")
        return response

    @AdminRoute("DELETE", PATH, "Sign out", is_open=True)
    async def _sign_out(self, call: AdminRequest) -> web.Response:
        request = call.request
        if is_from_elsewhere(request.headers, self.public_url()):
            raise ForeignOrigin
        if (visit := self.visit(request)) is not None:
            self._end(visit.session)
            log.info("signed out", token=visit.token.name)
        headers = {name: value for name, value in HEADERS.items() if name != "Content-Type"}
        response = web.Response(status=204, headers=headers)
        path = visit.session.path if visit else cookie_path(request.headers)
        response.del_cookie(COOKIE, path=path, httponly=True, samesite="Strict")
        return response

    async def _check(self, sent: str | None, request: web.BaseRequest, way: TokenWay) -> AdminToken:
        """Return the admin token, or count a wrong one and delay its answer.

        Raises NotAdmin or RateLimited. None stands for a text that is no token at all.
        """
        token = None if sent is None else find(sent, self.admin().all_tokens)
        if token is not None:
            return token
        # Nothing is awaited before this: tokens sent at the same time are counted one by one.
        address = request.remote or ""
        delay = self._throttle.fail(address, SIGN_IN if way == "sign_in" else 1)
        self._report_wrong(way, address)
        if not delay:
            raise NotAdmin
        if self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                await _wait(request, delay)
            finally:
                self._waiting -= 1
        wait = retry_after(delay, 0.0)
        raise RateLimited("Too many wrong admin tokens were sent.", retry_after=wait)

    def _report_wrong(self, way: TokenWay, address: str) -> None:
        """Count a wrong token, and log it unless there are many."""
        self.observer.admin_token_wrong(way)
        now = self.clock()
        if self._lines.delay(now):
            self._unlogged += 1
            return
        self._lines.count(now)
        log.warning("wrong admin token", way=way, address=address, unlogged_before=self._unlogged)
        self._unlogged = 0

    def _set_cookie(
        self, session: Session, token: AdminToken, response: web.StreamResponse
    ) -> None:
        response.set_cookie(
            COOKIE,
            write_session(session, token, self.pepper),
            path=session.path,
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


def _cookies(request: web.BaseRequest) -> Iterator[str]:
    """Yield the sessions' cookies. Gateways on one host may each have one, under their paths."""
    for header in request.headers.getall("Cookie", ()):
        for cookie in header.split(";"):
            name, _, text = cookie.strip().partition("=")
            if name == COOKIE:
                yield text


async def _read_token(call: AdminRequest) -> str:
    """Read the token from a body `{"token": "..."}`. Raises InvalidRequest."""
    body = await read_json(call, MOST_SIGN_IN_BYTES)
    token = body.get("token")
    if set(body) != {"token"} or not isinstance(token, str) or len(token) > LONGEST:
        raise InvalidRequest(
            'Send the admin token as {"token": "..."}.', param="token", code="invalid_fields"
        )
    return token


async def _wait(request: web.BaseRequest, seconds: float) -> None:
    """Wait, and drop the rest of the body meanwhile: it must not fill the memory."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await request.content.readany():
                pass
            await asyncio.Event().wait()


def _shown(token: AdminToken) -> dict[str, Any]:
    return {"who": token.name, "role": token.role}


def require_role(token: AdminToken, route: AdminRoute) -> None:
    """Raise ViewerOnly if the token's role does not allow the route."""
    if token.role != "admin" and not route.is_safe:
        raise ViewerOnly
