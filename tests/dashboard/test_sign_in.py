"""Signing in and out in a browser."""

import asyncio
import time

from playwright.async_api import expect

from gateway.web.admin.session_cookie import IDLE_SECONDS, Session, write_session
from gateway.web.admin.sessions import COOKIE
from gateway.web.admin.throttle import BURST
from tests.support.browser import Screen
from tests.support.rig import ADMIN_TOKEN

WRONG = "wrong-token-0123456789"


async def fill(screen: Screen, token: str) -> None:
    await screen.page.get_by_label("Admin token").fill(token)
    await screen.page.get_by_role("button", name="Sign in").click()


async def end_session(screen: Screen) -> None:
    """Replace the tab's session by one that was idle for too long."""
    (token, *_) = screen.rig.gateway.settings.admin.all_tokens
    long_ago = time.time() - IDLE_SECONDS - 5
    session = Session(token=token.name, id="0" * 32, began=long_ago, seen=long_ago, secure=False)
    value = write_session(session, token, screen.rig.gateway.pepper)
    url = screen.rig.gateway.admin_url
    await screen.page.context.add_cookies([{"name": COOKIE, "value": value, "url": url}])


async def test_a_token_opens_the_requested_page(screen: Screen) -> None:
    await screen.open("/audit?from=2026-11-01&to=2026-11-07&team=red")
    await expect(screen.page.get_by_label("Admin token")).to_be_focused()
    await fill(screen, f" {ADMIN_TOKEN} ")
    await expect(screen.page.get_by_role("heading", name="Audit")).to_be_focused()
    assert screen.address == "/audit?from=2026-11-01&to=2026-11-07&team=red"
    await expect(screen.page.get_by_text("Signed in as")).to_contain_text("admin")
    await screen.page.reload()
    await expect(screen.page.get_by_role("heading", name="Audit")).to_be_visible()


async def test_a_wrong_token_can_be_tried_again_and_scripts_read_none(screen: Screen) -> None:
    await screen.open()
    await fill(screen, WRONG)
    await expect(screen.page.get_by_role("alert")).to_contain_text(
        "not an admin token of this gateway"
    )
    await expect(screen.page.get_by_label("Admin token")).to_be_focused()
    assert await screen.page.context.cookies() == []
    await fill(screen, ADMIN_TOKEN)
    await expect(screen.page.get_by_role("heading", name="Overview")).to_be_visible()
    (cookie,) = await screen.page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert await screen.page.evaluate("document.cookie") == ""
    kept = await screen.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert ADMIN_TOKEN not in kept


async def test_guessing_has_to_wait(screen: Screen) -> None:
    await screen.open()
    # From the same address, and quicker than a browser on a slow machine.
    guesses = [
        asyncio.create_task(screen.rig.ask_admin("GET", "quota", WRONG)) for _ in range(3 * BURST)
    ]
    try:
        await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        await fill(screen, WRONG)
        await expect(screen.page.get_by_role("alert")).to_contain_text("Try again in")
    finally:
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)


async def test_an_ended_session_leads_to_sign_in_and_back(desk: Screen) -> None:
    await desk.open("/audit?from=2026-11-01&to=2026-11-07")
    await expect(desk.page.get_by_role("heading", name="Audit")).to_be_visible()
    await desk.page.wait_for_load_state("networkidle")  # no request is in flight
    await end_session(desk)
    await desk.page.get_by_label("Period").select_option("Last 7 days")
    await expect(desk.page.get_by_text("Your session has expired")).to_be_visible()
    address = desk.address
    await fill(desk, ADMIN_TOKEN)
    await expect(desk.page.get_by_role("heading", name="Audit")).to_be_visible()
    assert desk.address == address
    await expect(desk.page.get_by_text("No changes in this period")).to_be_visible()


async def test_signing_out_leaves_nothing_behind(desk: Screen) -> None:
    await desk.open("/audit")
    await desk.page.get_by_role("button", name="Sign out").click()
    await expect(desk.page.get_by_text("You are signed out.")).to_be_visible()
    assert await desk.page.context.cookies() == []
    await desk.page.reload()
    await expect(desk.page.get_by_label("Admin token")).to_be_visible()


async def test_a_page_of_another_origin_changes_nothing_with_the_cookie(desk: Screen) -> None:
    """The sandbox's port is the same site: SameSite=Strict alone would let this through."""
    url, attacker = desk.rig.gateway.admin_url, desk.rig.sandbox.url
    await desk.page.goto(f"{attacker}/any-page")
    send = """async (url) => {
        const forms = [
            {method: "DELETE"},
            {method: "POST", body: '{"team": "evil"}'},
            {method: "POST", headers: {"Content-Type": "application/json"}, body: '{"team": "e"}'},
            {method: "POST", headers: {"X-Gateway-Dashboard": "1"}, body: "{}"},
        ];
        const seen = [];
        for (const form of forms) {
            for (const mode of ["cors", "no-cors"]) {
                try {
                    const options = {...form, mode, credentials: "include"};
                    const answer = await fetch(url, options);
                    seen.push(answer.status);
                } catch {
                    seen.push(0);
                }
            }
        }
        return seen;
    }"""
    for path in ("teams", "session", "teams/red"):
        assert set(await desk.page.evaluate(send, f"{url}/admin/v1/{path}")) == {0}
    desk.said.clear()  # the browser's own complaints about that page
    assert (await desk.rig.ask_admin("GET", "teams")).json == {"teams": []}
    await desk.open("/audit")
    await expect(desk.page.get_by_role("heading", name="Audit")).to_be_visible()
