"""The overview: four numbers, spend by team, the top teams and keys, and latency.

A test cannot wait for ninety days of requests. All tests but one answer for the admin API.
"""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.support.browser import Scheme, Screen

FIRST = date(2026, 8, 1)
NUMBERS = {
    "cost_usd": "1234.56",
    "saved_usd": "0.004",
    "images_bought": 1200,
    "images_cached": 300,
    "images_coalesced": 4,
    "images_unknown": 2,
    "requests": 1500,
    "requests_refused": 12,
    "hit_ratio": 0.253,
}
NOTHING = {**dict.fromkeys(NUMBERS, 0), "cost_usd": "0", "saved_usd": "0", "hit_ratio": None}


def overview(times: Sequence[str], teams: Sequence[str | None]) -> dict[str, Any]:
    """An answer with these times and teams; the first team is the dearest."""
    rows = [
        {"team": team, "cost_usd": str(19 - place), "saved_usd": "1.00", "images_bought": 5,
         "images_cached": 1, "requests": 7, "requests_refused": 1}
        for place, team in enumerate(teams) if team is not None
    ]  # fmt: skip
    return {
        "from": times[0][:10],
        "to": times[-1][:10],
        "before_from": "2026-05-03",
        "before_to": "2026-07-31",
        "now": NUMBERS,
        "before": {**NUMBERS, "cost_usd": "617.28", "requests": 1000, "hit_ratio": 0.3},
        "days": list(times),
        "series": [
            {"team": team, "cost_usd": [f"{(place + 1) * 0.5:.2f}" for _ in times]}
            for place, team in enumerate(teams)
        ],
        "teams": rows,
        "keys": [{**row, "key": f"sk-gw-key{place}"} for place, row in enumerate(rows)],
        "latency": [
            {"day": time, "requests": 5, "own_ms": 1.26, "upstream_ms": 18_400.0} for time in times
        ],
    }


def days(count: int) -> list[str]:
    return [(FIRST + timedelta(days=number)).isoformat() for number in range(count)]


MANY = overview(days(90), [*(f"team-{number}" for number in range(10)), None])


COLOURED = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 0; at < data.length; at += 4) {
        const colours = data.slice(at, at + 3);
        count += data[at + 3] > 200 && Math.max(...colours) - Math.min(...colours) > 60;
    }
    return count;
}"""
"""Counts the pixels that are not grey."""


async def answer_with(screen: Screen, answer: object) -> None:
    """Answer the page with this in place of the admin API."""

    async def give(route: Route) -> None:
        await route.fulfill(body=json.dumps(answer), content_type="application/json")

    await screen.page.route("**/admin/v1/overview?*", give)


async def test_it_shows_the_requests_of_today(desk: Screen) -> None:
    key = await desk.rig.key("red")
    await desk.open("/")
    await expect(desk.page.get_by_text("No requests in this period")).to_be_visible()
    for prompt in ("an apple", "a pear", "a pear"):
        assert (await desk.rig.generate(key, prompt)).status == 200
    await desk.page.reload()
    tiles = desk.page.locator(".tile")
    for number, words in enumerate(("$0.08", "2 bought, 1 from cache", "33.3 %", "$0.04")):
        await expect(tiles.nth(number)).to_contain_text(words)
    teams = desk.page.get_by_role("table", name="Top teams by spend")
    await expect(teams.get_by_role("row", name="red")).to_contain_text("$0.08")
    await expect(desk.page.get_by_text("Gateway latency")).to_be_visible()


async def test_a_period_has_four_numbers_and_its_top_teams_and_keys(desk: Screen) -> None:
    await answer_with(desk, MANY)
    async with desk.page.expect_request("**/admin/v1/overview?*") as asked:
        await desk.open("/?from=2026-08-01&to=2026-10-29&team=red")
    assert (await asked.value).url.endswith("?from=2026-08-01&to=2026-10-29&team=red")
    tiles = desk.page.locator(".tile")
    await expect(tiles).to_have_count(4)
    for position, texts in enumerate(
        [
            ("Spend", "$1,234.56", "1,500 requests, 12 refused", "up 100 %", "was $617.28"),
            ("Images", "1,500", "1,200 bought (2 unconfirmed), 300 from cache", "no change"),
            ("Hit ratio", "25.3 %", "down 4.7 points", "was 30.0 %"),
            ("Saved", "$0.004", "no change"),
        ]
    ):
        for text in texts:
            await expect(tiles.nth(position)).to_contain_text(text)
    await expect(desk.page.get_by_text("3 May 2026 to 31 Jul 2026")).to_be_visible()
    table = desk.page.get_by_role("table", name="Top teams by spend")
    await expect(table.locator("tbody th").first).to_have_text("team-0")
    link = table.get_by_role("link", name="team-0")
    target = "/teams/team-0?from=2026-08-01&to=2026-10-29"
    await expect(link).to_have_attribute("href", target)
    await table.get_by_role("button", name="Spend").click()
    await expect(table.locator("tbody th").first).to_have_text("team-9")
    keys = desk.page.get_by_role("table", name="Top keys by spend")
    await expect(keys.locator("tbody th").first).to_have_text("sk-gw-key0")


async def test_today_is_drawn_by_hour_and_not_compared_with_a_whole_day(desk: Screen) -> None:
    today = datetime.now(UTC).date()
    hours = [f"{today}T{hour:02}:00:00Z" for hour in range(24)]
    await answer_with(desk, overview(hours, ["red"]))
    await desk.open(f"/?from={today}&to={today}")
    await expect(desk.page.locator(".tile").first).to_contain_text("so far, was $617.28")
    await expect(desk.page.get_by_text("today has not ended")).to_be_visible()
    await expect(desk.page.get_by_text("up 100 %")).to_have_count(0)
    panel = desk.page.get_by_role("region", name="Spend by hour", exact=True)
    await panel.get_by_text("Show as a table").click()
    await expect(panel.get_by_role("row").nth(14)).to_contain_text("13:00 UTC")


async def test_the_chart_has_its_numbers_as_a_table(desk: Screen) -> None:
    await answer_with(desk, MANY)
    await desk.open()
    panel = desk.page.get_by_role("region", name="Spend by day", exact=True)
    await expect(panel.locator("canvas")).to_be_visible()
    for name in ("team-0", "team-9", "Other teams"):
        await expect(panel.locator("figcaption")).to_contain_text(name)
    await expect(panel.locator("figcaption")).to_contain_text("$45.00")
    await panel.locator(".chart-box").hover()
    await expect(panel.locator("figcaption")).to_contain_text("Sep 2026")
    await panel.get_by_text("Show as a table").click()
    table = panel.get_by_role("table")
    await expect(table.locator("tbody tr")).to_have_count(50)
    await expect(table.locator("tbody tr").first).to_contain_text("1 Aug 2026")
    await expect(table.locator("tbody tr").first.locator("td").last).to_have_text("$5.50")


async def test_latency_has_units_and_stands_at_its_day(desk: Screen) -> None:
    answer = overview(days(90), ["red"])
    await answer_with(desk, {**answer, "latency": answer["latency"][44:45]})
    await desk.open()
    for name, value in (("Gateway latency", "1.3 ms"), ("Upstream latency", "18.4 s")):
        panel = desk.page.get_by_role("region", name=name, exact=True).first
        await panel.get_by_text("Show as a table").click()
        cells = panel.get_by_role("table").get_by_role("cell")
        await expect(cells.nth(44)).to_have_text(value)
        await expect(cells.nth(43)).to_have_text("\N{EN DASH}")
        assert await panel.locator("canvas").evaluate(COLOURED) > 0  # the only value has a mark


async def test_periods_without_requests_or_purchases_are_named(desk: Screen) -> None:
    empty = {**overview(days(2), []), "now": NOTHING, "before": NOTHING, "latency": []}
    await answer_with(desk, empty)
    await desk.open()
    await expect(desk.page.get_by_text("No requests in this period")).to_be_visible()
    await answer_with(desk, {**empty, "before": NUMBERS})
    await desk.page.reload()
    await expect(desk.page.get_by_text("No purchases in this period")).to_be_visible()
    await expect(desk.page.get_by_text("No timed requests in this period")).to_be_visible()
    await expect(desk.page.get_by_text("No images to compare with")).to_be_visible()


@pytest.mark.exhaustive  # its short sister: test_axe_finds_nothing_serious in test_shell.py
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_long_period_is_accessible_and_fits_a_phone(desk: Screen, scheme: Scheme) -> None:
    await desk.page.emulate_media(color_scheme=scheme)
    await answer_with(desk, MANY)
    await desk.open()
    await expect(desk.page.locator("canvas")).to_have_count(3)
    for summary in await desk.page.get_by_text("Show as a table").all():
        await summary.click()
    await expect(desk.page.get_by_role("table")).to_have_count(5)
    assert await desk.faults() == []
    await desk.page.set_viewport_size({"width": 360, "height": 740})
    assert not await desk.is_too_wide()
    assert await desk.faults() == []
