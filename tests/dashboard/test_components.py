"""The components of the pages, each drawn alone on an empty page of the dashboard."""

from pathlib import Path

from playwright.async_api import Page, expect

from tests.support.browser import Screen

DRAWN = Path(__file__).with_name("drawn.js")


async def draw(screen: Screen, name: str) -> Page:
    """An empty page with this component on it."""
    await screen.open("/audit/nothing")
    await expect(screen.page.get_by_role("heading", name="Page not found")).to_be_visible()
    await screen.page.evaluate(DRAWN.read_text())  # as from the browser's own tools
    await screen.page.evaluate("(name) => draw(name)", name)
    return screen.page


async def test_a_bar_has_its_numbers_as_text(desk: Screen) -> None:
    page = await draw(desk, "bars")
    for words in (
        "Images per day: 30 used, 5 held, 65 left of 100",
        "Near: 85 used, 15 left of 100",
        "Full: 120 used, 0 left of 100",
        "None: 0 used, 0 left of 0",
        "Dollars: $12.50 used, $987.50 left of $1,000.00",
    ):
        await expect(page.get_by_role("img", name=words, exact=True)).to_be_visible()
    shares = (
        "[...document.querySelectorAll('.bar-track')].map((track) => "
        "[...track.children].map((part) => Math.round(100 * part.offsetWidth / track.offsetWidth)))"
    )
    assert await page.evaluate(shares) == [[30, 5], [85, 0], [100, 0], [100, 0], [1, 0]]
    assert await desk.faults() == []


async def test_a_confirmation_keeps_the_focus_shows_errors_and_closes_when_done(
    desk: Screen,
) -> None:
    page = await draw(desk, "confirm")
    opener = page.get_by_role("button", name="Revoke", exact=True)
    await opener.press("Enter")
    dialog = page.get_by_role("dialog", name="Revoke this key?")
    await expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    assert await desk.faults() == []
    inside = (
        "!document.hasFocus() || document.activeElement === document.body || "
        "document.querySelector('dialog').contains(document.activeElement)"
    )
    for _ in range(6):
        await page.keyboard.press("Tab")
        assert await page.evaluate(inside)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(opener).to_be_focused()
    await opener.click()
    await page.get_by_role("button", name="Revoke it").click()
    await expect(page.get_by_role("alert")).to_have_text("It is locked. (request id-1)")
    await page.get_by_role("button", name="Revoke it").click()
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_text_is_copied_with_and_without_the_clipboard_api(desk: Screen) -> None:
    page = await draw(desk, "copy")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == "sk-gw-secret"
    await expect(page.locator("[aria-live=polite]")).to_contain_text("Key copied.")
    await page.evaluate("navigator.clipboard.writeText('something else')")
    await page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    await page.get_by_role("button", name="Copy", exact=True).click()
    await expect(page.get_by_role("button", name="Copied")).to_be_focused()
    await page.evaluate("delete navigator.clipboard")
    await page.reload()
    assert await page.evaluate("navigator.clipboard.readText()") == "sk-gw-secret"


async def test_money_is_exact_where_it_is_small(desk: Screen) -> None:
    page = await draw(desk, "money")
    for words in ("\N{EN DASH}", "$0.00", "$0.006", "$0.042", "-$1.065", "$9.999999", "$1,234.57"):
        await expect(page.get_by_role("listitem").get_by_text(words, exact=True)).to_be_visible()
    axes = ["$0.00 $0.25 $0.50", "$0 $1 $2", "$0.00 $0.50 $1.00", "$0 $500 $1K"]
    for words in axes:
        await expect(page.get_by_text(words, exact=True)).to_be_visible()


async def test_a_long_table_is_paged_and_sorts_numbers(desk: Screen) -> None:
    page = await draw(desk, "table")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Spend").click()
    await expect(rows.first).to_contain_text("249.75")
    await page.get_by_role("button", name="Spend").click()
    await expect(rows.first).to_contain_text("=1+1")
    lines = (await desk.exported()).splitlines()
    assert lines[:2] == ["Team,Spend", "'=1+1,-3.5"]
    assert len(lines) == 1002
    assert lines[-1].endswith(",")
    await page.get_by_role("button", name="Team", exact=True).click()
    await expect(rows.nth(1)).to_contain_text("team-0")
    await expect(rows.nth(3)).to_contain_text("team-2")
