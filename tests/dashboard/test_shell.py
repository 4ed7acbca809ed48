"""All pages: addresses, keyboard, themes, narrow screens and accessibility."""

import hashlib
import re
from collections.abc import Sequence

import pytest
from playwright.async_api import Browser, expect

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from gateway.web.admin.pages import SECTIONS
from tests.support.browser import AXE, DESK, PHONE, SCHEMES, Scheme, Screen, opened
from tests.support.rig import Rig

PAGES = ("/", *(f"/{section}" for section in SECTIONS))


async def tab_to(screen: Screen, name: str, most: int = 40) -> None:
    """Press Tab until the element of this name has the focus."""
    for _ in range(most):
        await screen.page.keyboard.press("Tab")
        if (await screen.focused()).strip() == name:
            return
    raise AssertionError(f"no way to {name} by Tab")


async def settled(screen: Screen) -> None:
    """Wait until the page's data has loaded or failed to load."""
    await expect(screen.page.get_by_role("heading", level=1)).to_be_visible()
    await expect(screen.page.get_by_label("Loading")).to_have_count(0)


async def busy(rig: Rig) -> None:
    """Make purchases, a cache hit and a refusal, so that no page is empty."""
    key = await rig.key("red", limits=Limits(images_per_day=2))
    rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    await rig.generate(key, "unknown")
    for prompt in ("an apple", "an apple", "a pear"):
        await rig.generate(key, prompt)


# -- addresses ----------------------------------------------------------------------------------


async def test_an_address_of_no_page_and_a_range_that_is_none(desk: Screen) -> None:
    await desk.open("/audit/nothing/here")
    await expect(desk.page.get_by_role("heading", name="Page not found")).to_be_visible()
    await desk.open("/audit?from=2026-02-31&to=soon")
    await expect(desk.page.get_by_label("Period")).to_have_value("30")


async def test_range_and_team_stay_in_the_address_from_page_to_page(desk: Screen) -> None:
    await desk.rig.key("red")
    await desk.open("/audit")
    await desk.page.get_by_label("Period").select_option("Other days")
    await desk.page.get_by_label("From").fill("2026-11-01")
    await desk.page.get_by_label("To", exact=True).fill("2026-11-07")
    await desk.page.get_by_role("button", name="Apply").click()
    await expect(desk.page).to_have_url(re.compile("from=2026-11-01&to=2026-11-07"))
    team = desk.page.get_by_role("combobox", name="Team")
    await team.fill("red")
    await team.press("Enter")
    await expect(desk.page).to_have_url(re.compile("&team=red$"))
    await desk.page.get_by_role("link", name="Overview").click()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert desk.address == "/?from=2026-11-01&to=2026-11-07&team=red"
    await desk.page.go_back()
    await expect(desk.page.get_by_role("heading", level=1)).to_have_text("Audit")
    await desk.page.go_back()
    await expect(desk.page).to_have_url(re.compile("to=2026-11-07$"))
    await desk.page.go_back()
    await expect(desk.page.get_by_label("Period")).to_have_value("30")
    await desk.page.go_forward()
    await expect(desk.page.get_by_label("From")).to_have_value("2026-11-01")


async def test_an_unknown_team_is_reported(desk: Screen) -> None:
    await desk.rig.key("red")
    await desk.rig.key("rose")
    await desk.open("/audit")
    team = desk.page.get_by_role("combobox", name="Team")
    await expect(desk.page.locator("datalist option")).to_have_count(2)
    await team.fill("blue")
    await team.press("Enter")
    await expect(desk.page.get_by_text("There is no such team.")).to_be_visible()
    await team.fill("r")
    await team.press("Enter")
    await expect(desk.page.get_by_text("2 teams start with this.")).to_be_visible()
    await team.fill("ro")
    await team.press("Enter")
    await expect(desk.page).to_have_url(re.compile("team=rose$"))


# -- keyboard -----------------------------------------------------------------------------------


async def test_the_keyboard_alone_is_enough(desk: Screen) -> None:
    await desk.open("/audit")
    await settled(desk)
    await desk.page.keyboard.press("Tab")
    assert await desk.focused() == "Skip to content"
    await desk.page.keyboard.press("Enter")
    assert await desk.page.evaluate("document.activeElement.id") == "main"
    await desk.page.reload()
    await settled(desk)
    await tab_to(desk, "Overview")
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_role("heading", name="Overview")).to_be_focused()
    await tab_to(desk, "Sign out")
    width = await desk.page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert width == "2px"  # the focus is visible
    await desk.page.keyboard.press("Enter")
    await expect(desk.page.get_by_label("Admin token")).to_be_focused()


# -- looks --------------------------------------------------------------------------------------

BACKGROUND = "getComputedStyle(document.documentElement).backgroundColor"


async def test_the_theme_follows_the_system_or_the_choice(browser: Browser, rig: Rig) -> None:
    seen = dict[str, str]()
    schemes: Sequence[Scheme] = ("light", "dark")
    for scheme in schemes:
        async with opened(browser, rig, scheme=scheme) as screen:
            await screen.sign_in()
            await screen.open("/audit")
            await settled(screen)
            seen[scheme] = await screen.page.evaluate(BACKGROUND)
            other = "dark" if scheme == "light" else "light"
            await screen.page.get_by_label("Theme").select_option(other)
            seen[f"chose {other}"] = await screen.page.evaluate(BACKGROUND)
            await screen.page.reload()
            seen[f"reloaded {other}"] = await screen.page.evaluate(BACKGROUND)
            await settled(screen)
            await screen.page.get_by_label("Theme").select_option("System")
            assert await screen.page.evaluate(BACKGROUND) == seen[scheme]
    assert seen["light"] == seen["chose light"] == seen["reloaded light"]
    assert seen["dark"] == seen["chose dark"] == seen["reloaded dark"]
    assert seen["light"] != seen["dark"]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_page_is_accessible_on_a_phone_and_on_a_desk(
    browser: Browser, rig: Rig, scheme: Scheme
) -> None:
    await rig.ask_admin("POST", "teams", json={"team": "a-team-of-quite-a-long-name-indeed"})
    await busy(rig)
    async with opened(browser, rig, scheme=scheme, size=PHONE) as screen:
        await screen.open()
        await expect(screen.page.get_by_label("Admin token")).to_be_visible()
        assert not await screen.is_too_wide()
        assert await screen.faults() == []
        await screen.sign_in()
        for address in (*PAGES, "/audit/nothing"):
            await screen.page.set_viewport_size(PHONE)
            await screen.open(address)
            await settled(screen)
            assert not await screen.is_too_wide(), address
            assert await screen.faults() == [], address
            await screen.page.set_viewport_size(DESK)
            assert await screen.faults() == [], address
            if address in PAGES:
                await is_current(screen)


async def is_current(screen: Screen) -> None:
    """Check that heading, title and navigation name the page that is open."""
    current = screen.page.locator("nav[aria-label=Pages] a[aria-current=page]")
    await expect(current).to_have_count(1)
    name = await current.inner_text()
    await expect(screen.page.get_by_role("heading", level=1)).to_have_text(name)
    assert await screen.page.title() == f"{name} · Image gateway"


async def test_the_menu_of_a_phone_closes_at_its_page(browser: Browser, rig: Rig) -> None:
    async with opened(browser, rig, size=PHONE) as screen:
        await screen.sign_in()
        await screen.open("/audit")
        await expect(screen.page.get_by_role("link", name="Overview")).to_be_hidden()
        await screen.page.get_by_role("button", name="Menu").click()
        await screen.page.get_by_role("link", name="Overview", exact=True).click()
        await expect(screen.page.get_by_role("heading", name="Overview")).to_be_visible()
        await expect(screen.page.get_by_role("button", name="Sign out")).to_be_hidden()


async def test_axe_finds_a_fault(desk: Screen) -> None:
    await desk.open("/audit")
    await settled(desk)
    await desk.page.evaluate("document.querySelector('#main').append(new Image())")
    assert [fault for fault in await desk.faults() if fault.startswith("image-alt")]


def test_axe_is_as_it_was_published() -> None:
    listed = AXE.with_name("AXE.md").read_text()
    assert f"`{hashlib.sha256(AXE.read_bytes()).hexdigest()}`" in listed


async def test_the_policy_blocks_an_injected_script(desk: Screen) -> None:
    await desk.open("/audit")
    await settled(desk)
    await desk.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.broken = true";
            document.body.append(script);
        }"""
    )
    assert await desk.page.evaluate("window.broken") is None
    assert [line for line in desk.said if "Content Security Policy" in line]
    desk.said.clear()
