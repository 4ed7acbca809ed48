"""The page of the audit log: its rows, order, file and errors."""

import csv
import re
import sqlite3
from contextlib import closing
from io import StringIO

from playwright.async_api import expect

from tests.support.browser import Screen
from tests.support.rig import Rig

FIRST_PAGE = re.compile("^1.50 of 61$")


async def changed(rig: Rig, changes: int) -> None:
    """Create a team and change its limit so many times."""
    assert (await rig.ask_admin("PUT", "teams/red", json={})).status == 201
    for number in range(changes):
        body = {"limits": {"images_per_day": number}}
        assert (await rig.ask_admin("PATCH", "teams/red", json=body)).status == 200


async def test_changes_are_shown_in_words_and_a_period_without_any_is_named(desk: Screen) -> None:
    await changed(desk.rig, 2)
    await desk.open("/audit")
    rows = desk.page.get_by_role("table", name="Changes").get_by_role("row")
    await expect(rows).to_have_count(4)
    await expect(rows.nth(1)).to_contain_text("admin token admin")
    await expect(rows.filter(has_text="images_per_day: 0 → 1")).to_have_count(1)
    await expect(rows.filter(has_text="images_per_day: none → 0")).to_have_count(1)
    await expect(rows.filter(has_text="team.create")).to_contain_text("cache: on")
    await desk.open("/audit?from=2020-01-01&to=2020-01-02")
    await expect(desk.page.get_by_text("No changes in this period")).to_be_visible()
    await expect(desk.page.get_by_text("1 Jan 2020 to 2 Jan 2020, UTC")).to_be_visible()


async def test_the_table_sorts_and_pages_by_keyboard_and_exports_its_rows(desk: Screen) -> None:
    await changed(desk.rig, 60)
    await desk.open("/audit")
    table = desk.page.get_by_role("table", name="Changes")
    await expect(table.locator("tbody tr")).to_have_count(50)
    await expect(desk.page.get_by_text(FIRST_PAGE)).to_be_visible()
    await desk.page.get_by_role("button", name="Next").press("Enter")
    await expect(table.locator("tbody tr")).to_have_count(11)
    head = table.get_by_role("columnheader", name="Action")
    await head.get_by_role("button").press("Enter")
    await expect(head).to_have_attribute("aria-sort", "ascending")
    await expect(desk.page.get_by_text(FIRST_PAGE)).to_be_visible()
    await head.get_by_role("button").press("Enter")
    await expect(head).to_have_attribute("aria-sort", "descending")
    head_line, *lines = list(csv.reader(StringIO(await desk.exported(), newline="")))
    assert head_line == ["Time (UTC)", "Who", "Action", "Team", "Key", "Change"]
    assert len(lines) == 61
    assert [line[2] for line in lines] == sorted((line[2] for line in lines), reverse=True)


async def test_a_failure_shows_the_request_id_and_a_retry(desk: Screen) -> None:
    await changed(desk.rig, 1)
    with closing(sqlite3.connect(desk.rig.gateway.settings.store.place.path)) as database:
        database.execute("ALTER TABLE audit RENAME TO elsewhere")
        await desk.open("/audit")
        alert = desk.page.get_by_role("alert")
        await expect(alert).to_contain_text("The changes could not be loaded")
        await expect(alert.locator("code")).to_have_text(re.compile("^[0-9a-f]{32}$"))
        database.execute("ALTER TABLE elsewhere RENAME TO audit")
    await desk.page.get_by_role("button", name="Try again").click()
    await expect(desk.page.get_by_role("table", name="Changes")).to_be_visible()
