"""The page of purchases: the list with its filters, details, and refunds."""

import re

from playwright.async_api import expect

from gateway.upstream.sandbox import UpstreamFault
from tests.support.browser import Screen


async def unknown(screen: Screen, team: str = "red", n: int = 1) -> str:
    """Make an unknown purchase of a new team, and return the id of its request."""
    rig = screen.rig
    key = await rig.key(team)
    rig.sandbox.fault = UpstreamFault(kind="cut_before_headers", times=1)
    return (await rig.generate(key, None, n=n)).headers["X-Request-Id"]


async def test_an_unknown_purchase_is_looked_into_and_refunded(desk: Screen) -> None:
    id, _ = await unknown(desk, n=2), await unknown(desk, "blue")
    await desk.open("/purchases")
    table = desk.page.get_by_role("table", name="Purchases")
    await expect(table.locator("tbody tr")).to_have_count(2)
    row = table.get_by_role("row", name=re.compile(id))
    await expect(row).to_contain_text("$0.08")

    await row.get_by_role("button", name="Details").click()
    details = desk.page.get_by_role("dialog", name="Purchase")
    await expect(details).to_contain_text("2 images, $0.08")
    assert await desk.faults() == []
    await details.get_by_role("button", name="Close").last.click()

    await row.get_by_role("button", name="Refund").click()
    dialog = desk.page.get_by_role("dialog", name="Refund $0.08 of red?")
    await dialog.get_by_label("Reason").fill("  ")
    await dialog.get_by_role("button", name="Refund").click()
    await expect(dialog).to_contain_text("must be 1 to 300 printable characters")
    assert await desk.faults() == []
    await dialog.get_by_label("Reason").fill("not on the invoice")
    await dialog.get_by_role("button", name="Refund").click()
    await expect(row).to_contain_text("Refunded")
    await expect(row.get_by_role("button", name="Refund")).to_have_count(0)
    await row.get_by_role("button", name="Details").click()
    await expect(details).to_contain_text("not on the invoice")
    await details.get_by_role("button", name="Close").last.click()
    await desk.rig.assert_books(0, team="red")
    heads, *lines = (await desk.exported()).splitlines()
    assert heads.endswith("Request,Id,Key,Refunded by,Reason")
    assert lines[1].endswith(",admin token admin,not on the invoice")

    await desk.page.get_by_label("State").select_option("Unknown")
    await expect(table.locator("tbody tr")).to_have_count(1)
    await expect(table).to_contain_text("blue")
    assert "state=unknown" in desk.address
    await desk.open("/purchases?team=red")
    await expect(table.locator("tbody tr")).to_have_count(1)
    await row.get_by_role("link", name=id).click()
    requests = desk.page.get_by_role("table", name="Latest requests")
    await expect(requests).to_contain_text("upstream_cut")


async def test_a_viewer_may_not_refund(screen: Screen, viewer: str) -> None:
    await unknown(screen)
    await screen.sign_in(viewer)
    await screen.open("/purchases")
    table = screen.page.get_by_role("table", name="Purchases")
    await expect(table.get_by_role("button", name="Details")).to_have_count(1)
    await expect(table.get_by_role("button", name="Refund")).to_have_count(0)
    await screen.open("/purchases?state=open")
    await expect(screen.page.get_by_text("No such purchases")).to_be_visible()
