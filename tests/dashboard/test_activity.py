"""The pages of requests and of the cache: lists, filters and purges."""

import json
import re

from playwright.async_api import expect

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.browser import Screen


async def test_requests_are_shown_and_found(desk: Screen) -> None:
    key = await desk.rig.key("red", limits=Limits(images_per_day=1))
    await desk.rig.generate(key, "an apple", headers={"X-Request-Id": "first-one"})
    await desk.rig.generate(key, "a pear", headers={"X-Request-Id": "refused-one"})
    assert (await desk.rig.get("/v1/chat")).status == 404
    await desk.open("/activity")
    table = desk.page.get_by_role("table", name="Latest requests")
    await expect(table.get_by_role("row", name=re.compile("first-one"))).to_contain_text("bought")
    refused = table.get_by_role("row", name=re.compile("refused-one"))
    await expect(refused).to_contain_text("429")
    used = "images_per_day of team red: 1 of 1 used, 1 asked, resets at "
    await expect(refused).to_contain_text(used)
    await expect(table.get_by_role("row", name=re.compile("404"))).to_contain_text("not_found")
    heads, *rows = (await desk.exported()).splitlines()
    assert "Outcome,Code,Status,Cause,Size,Quality,Images,Cost (USD)" in heads
    assert f',insufficient_quota,insufficient_quota,429,"{used}' in rows[1]
    await desk.page.get_by_label("Errors only").check()
    await expect(table.locator("tbody tr")).to_have_count(2)
    assert "errors=true" in desk.address
    await desk.page.get_by_label("Errors only").uncheck()
    await desk.page.get_by_label("Request id").fill("first-one")
    await desk.page.get_by_role("button", name="Filter").click()
    await expect(table.locator("tbody tr")).to_have_count(1)
    await expect(table).to_contain_text("first-one")
    await desk.page.go_back()
    await expect(table.locator("tbody tr")).to_have_count(3)


async def test_errors_are_counted_by_kind_and_lead_to_their_request(desk: Screen) -> None:
    key = await desk.rig.key("red", limits=Limits(images_per_day=0))
    for number in range(3):
        await desk.rig.generate(key, headers={"X-Request-Id": f"no-{number}"})
    await desk.open("/activity")
    kinds = desk.page.get_by_role("table", name="Errors and refusals by kind")
    row = kinds.get_by_role("row", name=re.compile("insufficient_quota"))
    await expect(row.get_by_role("cell").nth(2)).to_have_text("3")
    await row.get_by_role("link", name="no-2").click()
    requests = desk.page.get_by_role("table", name="Latest requests")
    await expect(requests.locator("tbody tr")).to_have_count(1)


async def test_the_cache_lists_repeated_requests_and_purges_on_demand(desk: Screen) -> None:
    key = await desk.rig.key("red")
    for _ in range(3):
        await desk.rig.generate(key, "an apple")
    await desk.open("/cache")
    await expect(desk.page.get_by_text("Hit ratio of the disk")).to_be_visible()
    table = desk.page.get_by_role("table", name="Most repeated requests")
    await expect(table.locator("tbody tr")).to_have_count(1)
    await expect(table.get_by_role("row", name=re.compile(r"\bred\b"))).to_contain_text("1024x1024")
    for _ in range(2):
        await desk.rig.generate(key, "a pear")
    await desk.page.reload()
    await expect(table.locator("tbody tr")).to_have_count(2)
    await table.get_by_role("button", name=re.compile("^Purge [0-9a-f]+$")).first.click()
    await desk.page.get_by_role("button", name="Purge", exact=True).click()
    await expect(table.locator("tbody tr")).to_have_count(1)
    got = await desk.rig.generate(key, "a pear")
    assert got.headers["Cache-Status"] == "gateway; hit"
    await desk.page.get_by_role("button", name="Purge cache", exact=True).click()
    await desk.page.get_by_role("button", name="Purge", exact=True).click()
    await expect(desk.page.get_by_text("No repeated requests")).to_be_visible()
    got = await desk.rig.generate(key, "an apple")
    assert got.headers["Cache-Status"] == "gateway; fwd=miss; stored"


async def test_the_table_of_requests_fits_a_laptop(desk: Screen) -> None:
    key = await desk.rig.key("red", limits=Limits(images_per_day=1))
    for name in ("1", "2"):
        headers = {"X-Request-Id": name * 36}
        await desk.rig.generate(key, name, headers=headers, size="1536x1024", quality="medium")
    said = json.dumps({"error": {"message": "No room for 1536x1024 now. " * 10}})
    desk.rig.sandbox.fault = UpstreamFault(kind="status", status=500, times=1, body=said)
    await desk.rig.generate(await desk.rig.key("blue"), "3", headers={"X-Request-Id": "3" * 36})
    await desk.page.set_viewport_size({"width": 1400, "height": 900})
    await desk.open("/activity")
    await expect(desk.page.get_by_text("2" * 36).last).to_be_in_viewport()
    failed = desk.page.get_by_role("row", name=re.compile("3" * 36)).last
    await expect(failed).to_contain_text("Upstream 500: No room for 1536x1024 now. No room")
    beyond = (
        "[...document.querySelectorAll('.scroll')].map(one => one.scrollWidth - one.clientWidth)"
    )
    assert await desk.page.evaluate(beyond) == [0, 0]
