"""Sessions over a whole gateway: signing in and out, roles, forgery across sites, and guessing."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.config.admin_tokens import mint, toml_block
from gateway.web.admin.session_cookie import (
    HEADER,
    IDLE_SECONDS,
    LONGEST_SECONDS,
    Session,
    write_session,
)
from gateway.web.admin.sessions import COOKIE, LINES_BURST, MOST_WAITING
from gateway.web.admin.throttle import BURST, SIGN_IN
from gateway.web.admin.throttle import LONGEST_SECONDS as LONGEST_DELAY
from tests.support.rig import ADMIN_TOKEN, FLAT, Got, Rig, running_rig

VIEWER = mint(lambda size: b"v" * size)
TOKENS = toml_block("eyes", "viewer", VIEWER)
WRONG = "wrong-token-0123456789"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, FLAT + TOKENS) as running:
        yield running


async def sign_in(rig: Rig, token: str = ADMIN_TOKEN, **headers: str) -> Got:
    return await rig.ask_admin("POST", "session", None, json={"token": token}, headers=headers)


def cookie_of(got: Got) -> str:
    """The value of the session's cookie."""
    return got.headers["Set-Cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")


async def ask(rig: Rig, method: str, path: str, cookie: str, **kw: Any) -> Got:
    """Ask as the dashboard does, unless `headers` say otherwise."""
    own = {HEADER: "1", "Origin": rig.gateway.admin_url, "Cookie": f"{COOKIE}={cookie}"}
    headers = {**own, **kw.pop("headers", {})}
    sent = {name: value for name, value in headers.items() if value is not None}
    return await rig.ask_admin(method, path, None, headers=sent, **kw)


def aged(rig: Rig, *, began: float, seen: float, secure: bool = False) -> str:
    """A cookie of a session that began and was last used so many seconds ago."""
    (token, *_) = rig.gateway.settings.admin.all_tokens
    now = time.time()
    session = Session(
        token=token.name, id="0" * 32, began=now - began, seen=now - seen, secure=secure
    )
    return write_session(session, token, rig.gateway.pepper)


# -- in and out ---------------------------------------------------------------------------------


async def test_the_cookie_keeps_the_path_of_the_dashboard(rig: Rig) -> None:
    signed_in = await sign_in(rig, **{HEADER: "/gw/"})
    assert "; Path=/gw/;" in signed_in.headers["Set-Cookie"]
    (token, *_) = rig.gateway.settings.admin.all_tokens
    now = time.time()
    used = Session(
        token=token.name, id="1" * 32, began=now - 99, seen=now - 99, secure=False, path="/gw/"
    )
    renewed = await ask(rig, "GET", "teams", write_session(used, token, rig.gateway.pepper))
    assert "; Path=/gw/;" in renewed.headers["Set-Cookie"]
    signed_out = await ask(rig, "DELETE", "session", cookie_of(renewed))
    assert signed_out.headers["Set-Cookie"].partition("Path=")[2].startswith("/gw/")


async def test_the_cookie_of_another_gateway_on_the_host_does_not_disturb(rig: Rig) -> None:
    own, other = cookie_of(await sign_in(rig)), "a.b"
    for cookies in (f"{own}; {COOKIE}={other}", f"{other}; x=y; {COOKIE}={own}"):
        assert (await ask(rig, "GET", "teams", cookies)).status == 200


async def test_a_token_opens_a_session_with_its_role(rig: Rig) -> None:
    for token, who, role in ((ADMIN_TOKEN, "admin", "admin"), (VIEWER, "eyes", "viewer")):
        got = await sign_in(rig, token)
        assert (got.status, got.json) == (200, {"who": who, "role": role})
        shown = await ask(rig, "GET", "session", cookie_of(got))
        assert (shown.status, shown.json) == (200, {"who": who, "role": role})
        made = await ask(rig, "POST", "teams", cookie_of(got), json={"team": "red"})
        assert made.status == (201 if role == "admin" else 403)
    (change,) = (await ask(rig, "GET", "audit", cookie_of(got))).json["changes"]
    assert change["who"] == "admin token admin"
    _, *marks = [part.strip().lower() for part in got.headers["Set-Cookie"].split(";")]
    assert set(marks) == {"httponly", "path=/", "samesite=strict", f"max-age={IDLE_SECONDS}"}
    origin = rig.gateway.admin_url.replace("http://", "https://")
    assert "Secure" in (await sign_in(rig, Origin=origin)).headers["Set-Cookie"]


async def test_signing_out_ends_copies_of_the_cookie_too(rig: Rig) -> None:
    cookie, other = cookie_of(await sign_in(rig)), cookie_of(await sign_in(rig))
    got = await ask(rig, "DELETE", "session", cookie)
    assert (got.status, got.body) == (204, b"")
    assert f'{COOKIE}=""' in got.headers["Set-Cookie"]
    assert "Max-Age=0" in got.headers["Set-Cookie"]
    for path in ("session", "teams"):
        assert (await ask(rig, "GET", path, cookie)).status == 401
        assert (await ask(rig, "GET", path, other)).status == 200


async def test_a_changed_token_ends_its_sessions_and_no_others(rig: Rig) -> None:
    cookie, viewer = cookie_of(await sign_in(rig)), cookie_of(await sign_in(rig, VIEWER))
    settings = rig.gateway.settings
    rig.gateway.use(replace(settings, admin=replace(settings.admin, token=None)))
    assert (await ask(rig, "GET", "teams", cookie)).status == 401
    assert (await ask(rig, "GET", "teams", viewer)).status == 200
    assert (await rig.ask_admin("GET", "teams", ADMIN_TOKEN)).status == 401
    assert (await rig.ask_admin("GET", "teams", VIEWER)).status == 200


async def test_a_request_prolongs_a_session_but_not_past_its_longest_life(rig: Rig) -> None:
    got = await ask(rig, "GET", "session", aged(rig, began=LONGEST_SECONDS - 600, seen=600))
    longest = int(got.headers["Set-Cookie"].partition("Max-Age=")[2].partition(";")[0])
    assert 0 < longest <= 600
    fresh = await ask(rig, "GET", "teams", aged(rig, began=5, seen=5))
    assert "Set-Cookie" not in fresh.headers
    for secure in (True, False):
        cookie = aged(rig, began=600, seen=600, secure=secure)
        # Browsers send their origin with a change, not with a read.
        got = await ask(rig, "GET", "teams", cookie, headers={"Origin": None})
        assert f"Max-Age={IDLE_SECONDS}" in got.headers["Set-Cookie"]
        assert ("Secure" in got.headers["Set-Cookie"]) == secure


async def test_only_a_json_body_with_the_token_signs_in(rig: Rig) -> None:
    for body in ({}, {"token": 5}, {"token": ADMIN_TOKEN, "x": 1}, {"token": "x" * 2_000}):
        got = await rig.ask_admin("POST", "session", None, json=body)
        assert got.error == (400, "invalid_request_error", "invalid_fields"), body
    form = await rig.ask_admin("POST", "session", None, data={"token": ADMIN_TOKEN})
    assert form.status == 415
    large = await rig.ask_admin("POST", "session", None, json={"token": "x" * 10_000})
    assert large.status == 413


# -- forgery across sites -----------------------------------------------------------------------


async def test_a_page_of_another_origin_neither_changes_reads_nor_signs_in(rig: Rig) -> None:
    cookie = cookie_of(await sign_in(rig))
    elsewhere = {"Sec-Fetch-Site": "same-site"}
    for headers in ({HEADER: None}, {"Origin": None}, elsewhere):
        got = await ask(rig, "POST", "teams", cookie, json={"team": "red"}, headers=headers)
        assert got.error == (403, "permission_error", "foreign_origin")
        got = await ask(rig, "DELETE", "session", cookie, headers=headers)
        assert got.error == (403, "permission_error", "foreign_origin")
    assert (await ask(rig, "GET", "teams", cookie)).json == {"teams": []}
    assert (await ask(rig, "GET", "teams", cookie, headers=elsewhere)).status == 403
    assert (await sign_in(rig, **elsewhere)).status == 403
    assert (await sign_in(rig, Origin="http://evil.example.com")).status == 403


async def test_a_bearer_token_outranks_the_cookie(rig: Rig) -> None:
    cookie = cookie_of(await sign_in(rig))
    got = await ask(rig, "GET", "teams", cookie, headers={"Authorization": f"Bearer {WRONG}"})
    assert got.status == 401
    body, mine = {"team": "red"}, {"Cookie": f"{COOKIE}={cookie}"}
    assert (await rig.ask_admin("POST", "teams", VIEWER, json=body, headers=mine)).status == 403


# -- guessing -----------------------------------------------------------------------------------


async def guess(rig: Rig, *, signing_in: bool, token: str = WRONG) -> Got:
    return await (sign_in(rig, token) if signing_in else rig.ask_admin("GET", "teams", token))


@pytest.mark.parametrize("signing_in", [True, False], ids=["sign-in", "bearer"])
async def test_wrong_tokens_wait_and_the_right_ones_never(rig: Rig, signing_in: bool) -> None:
    for _ in range(BURST // SIGN_IN if signing_in else BURST):
        got = await guess(rig, signing_in=signing_in)
        assert got.error == (401, "authentication_error", "invalid_admin_token")
    for way in (True, False):  # one throttle for both
        began = time.monotonic()
        got = await guess(rig, signing_in=way)
        assert got.error == (429, "rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(got.headers["Retry-After"]) <= 60
        assert got.headers["Connection"] == "close"
        assert time.monotonic() - began > 0.5
        for token in (ADMIN_TOKEN, VIEWER):
            assert (await guess(rig, signing_in=True, token=token)).status == 200
            assert (await guess(rig, signing_in=False, token=token)).status == 200


async def test_a_flood_is_slow_and_the_right_token_overtakes_it(rig: Rig) -> None:
    wrong = (WRONG, "x" * 3_000, "no-token, but commas")
    answers = [
        asyncio.create_task(guess(rig, signing_in=n % 2 == 0, token=wrong[n % 6 // 2]))
        for n in range(60)
    ]
    await asyncio.wait(answers, timeout=1.0)
    for signing_in in (True, False):
        got = await guess(rig, signing_in=signing_in, token=ADMIN_TOKEN)
        assert got.status == 200
    statuses = [answer.result().status for answer in answers if answer.done()]
    assert statuses.count(401) <= BURST
    assert set(statuses) <= {401, 429, 400}  # 400: a sign-in with a text of 3,000 characters
    assert len(answers) - len(statuses) > 20, "the answers to a flood must wait"
    for answer in answers:
        answer.cancel()


async def test_the_body_of_a_waiting_request_is_dropped(rig: Rig) -> None:
    """A wrong token must not be a way to fill the memory."""
    for _ in range(BURST):
        await guess(rig, signing_in=False)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            yield b"x" * 65_536
            sent += 65_536

    began = time.monotonic()
    got = await rig.ask_admin("POST", "teams", WRONG, data=body())
    assert (got.status, sent) == (429, 64 * 65_536)
    assert time.monotonic() - began > 0.5


@pytest.mark.exhaustive
async def test_only_so_many_answers_wait_and_the_others_end_their_connections(rig: Rig) -> None:
    async def timed() -> tuple[Got, float]:
        began = time.monotonic()
        return await rig.ask_admin("GET", "teams", WRONG), time.monotonic() - began

    more = 300
    answers = await asyncio.gather(*(timed() for _ in range(BURST + MOST_WAITING + more)))
    late = [got for got, seconds in answers if got.status == 429 and seconds > LONGEST_DELAY / 2]
    # On a busy machine some of the answers that were sent at once arrive late as well.
    assert len(late) <= MOST_WAITING + more / 2
    assert len([got for got, _ in answers if got.status == 401]) <= BURST
    assert all(got.headers["Connection"] == "close" for got, _ in answers if got.status == 429)
    assert (await rig.ask_admin("GET", "teams")).status == 200


async def test_wrong_tokens_are_counted_and_few_are_logged(rig: Rig) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            await guess(rig, signing_in=True)
        answers = [asyncio.create_task(guess(rig, signing_in=False)) for _ in range(22)]
        await asyncio.wait(answers, timeout=1.0)
    for answer in answers:
        answer.cancel()
    lines = [line for line in logs if line["event"] == "wrong admin token"]
    assert len(lines) == LINES_BURST
    assert {line["way"] for line in lines} == {"sign_in", "bearer"}
    assert WRONG not in str(logs)
    metrics = (await rig.admin("/metrics")).body.decode()
    assert 'gateway_wrong_admin_tokens_total{way="sign_in"} 3.0' in metrics
    assert 'gateway_wrong_admin_tokens_total{way="bearer"} 22.0' in metrics
