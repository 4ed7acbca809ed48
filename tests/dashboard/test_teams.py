"""Teams and keys in the dashboard: created, used with the official client, changed, revoked."""

import re

import openai
import pytest
from playwright.async_api import Locator, expect

from gateway.core.model import Team
from gateway.tenants.store import DirectoryWrite
from tests.support.browser import SCHEMES, Scheme, Screen


async def make_team(desk: Screen, name: str, images_a_day: int | None = None) -> None:
    """Create a team in the dialog; its page follows."""
    await desk.open("/teams")
    await desk.page.get_by_role("button", name="New team").click()
    dialog = desk.page.get_by_role("dialog", name="New team")
    await dialog.get_by_label("Name", exact=True).fill(name)
    if images_a_day is not None:
        await dialog.get_by_label("Images a day").fill(str(images_a_day))
    await dialog.get_by_role("button", name="Create team").click()
    await expect(desk.page.get_by_role("heading", name=name, level=1)).to_be_visible()


async def make_key(desk: Screen, name: str) -> str:
    """Create a key on the page of a team, and return its text."""
    await desk.page.get_by_role("button", name="New key").click()
    dialog = desk.page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill(name)
    await dialog.get_by_role("button", name="Create key").click()
    return await copied_key(desk)


async def copied_key(desk: Screen) -> str:
    """Close the dialog with the new key, and return the key."""
    shown = desk.page.get_by_role("dialog", name="The new key")
    text = await shown.get_by_role("region", name="Key", exact=True).locator("code").inner_text()
    await shown.get_by_role("button", name="I have copied it").click()
    await expect(shown).to_have_count(0)
    return text


async def buy(desk: Screen, key: str, prompt: str) -> None:
    """Ask for a picture with the official client."""
    client = openai.AsyncOpenAI(base_url=f"{desk.rig.url}/v1", api_key=key, max_retries=0)
    async with client:
        answer = await client.images.generate(model="gpt-image-2", prompt=prompt)
    assert answer.data


def quota(desk: Screen, words: str) -> Locator:
    return desk.page.get_by_role("img", name=words)


async def test_a_team_is_created_used_up_raised_and_revoked(desk: Screen) -> None:
    await make_team(desk, "red", images_a_day=2)
    await expect(quota(desk, "red, Images a day: 0 used, 2 left of 2")).to_be_visible()
    key = await make_key(desk, "Figma plugin")
    await buy(desk, key, "one apple")
    await desk.page.reload()
    await expect(quota(desk, "red, Images a day: 1 used, 1 left of 2")).to_be_visible()
    await buy(desk, key, "two apples")
    with pytest.raises(openai.RateLimitError):
        await buy(desk, key, "three apples")
    await desk.page.get_by_role("button", name="Change", exact=True).click()
    dialog = desk.page.get_by_role("dialog", name="Change red")
    await dialog.get_by_label("Images a day").fill("3")
    await dialog.get_by_role("button", name="Save").click()
    await expect(quota(desk, "red, Images a day: 2 used, 1 left of 3")).to_be_visible()
    await desk.rig.gateway.directory.refresh()
    await buy(desk, key, "three apples")
    await desk.page.get_by_role("button", name=re.compile("^Revoke ")).click()
    await desk.page.get_by_role("button", name="Revoke key").click()
    row = desk.page.get_by_role("row", name=re.compile("Figma plugin"))
    await expect(row).to_contain_text("revoked")
    await desk.rig.gateway.directory.refresh()
    with pytest.raises(openai.AuthenticationError):
        await buy(desk, key, "four apples")


async def test_a_new_key_is_shown_once_with_client_settings(desk: Screen) -> None:
    await make_team(desk, "red")
    await desk.page.get_by_role("button", name="New key").click()
    await desk.page.get_by_role("button", name="Create key").click()
    shown = desk.page.get_by_role("dialog", name="The new key")
    key = await shown.get_by_role("region", name="Key", exact=True).locator("code").inner_text()
    settings = shown.get_by_role("region", name="For OpenAI clients")
    await expect(settings).to_contain_text(f"OPENAI_BASE_URL={desk.rig.url}/v1")
    await expect(settings).to_contain_text(f"OPENAI_API_KEY={key}")
    await expect(shown.get_by_role("region", name="To try it")).to_contain_text("curl")
    await expect(shown.get_by_role("button", name="Copy").first).to_be_focused()
    for _ in range(3):
        await desk.page.keyboard.press("Escape")
    await desk.page.mouse.click(5, 5)
    await expect(shown.get_by_role("button", name="Close")).to_have_count(0)
    await expect(shown.get_by_role("region", name="Key", exact=True)).to_contain_text(key)
    await shown.get_by_role("button", name="I have copied it").click()
    await expect(desk.page.get_by_text(key.rpartition("_")[2])).to_have_count(0)
    await desk.page.reload()
    await expect(desk.page.get_by_role("table", name="Keys of red")).to_be_visible()
    assert key.rpartition("_")[2] not in await desk.page.content()


async def test_a_rotated_key_and_its_successor_both_work(desk: Screen) -> None:
    await make_team(desk, "red")
    old = await make_key(desk, "app")
    await desk.page.get_by_role("button", name=re.compile("^Rotate ")).click()
    await desk.page.get_by_role("button", name="Rotate key").click()
    new = await copied_key(desk)
    table = desk.page.get_by_role("table", name="Keys of red")
    await expect(table.get_by_role("row", name=re.compile("grace period ends"))).to_have_count(1)
    await desk.rig.gateway.directory.refresh()
    assert old != new
    for key in (old, new):
        await buy(desk, key, "an apple")


async def test_a_key_is_changed(desk: Screen) -> None:
    await make_team(desk, "red")
    key = await make_key(desk, "app")
    table = desk.page.get_by_role("table", name="Keys of red")
    await table.get_by_role("button", name=re.compile("^Change ")).click()
    dialog = desk.page.get_by_role("dialog")
    await dialog.get_by_label("Name", exact=True).fill("web shop")
    await dialog.get_by_label("Expires in").fill("soon")
    await dialog.get_by_label("Images a day").fill("1")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Check Expires in")
    await dialog.get_by_label("Expires in").fill("90d")
    await dialog.get_by_role("button", name="Save").click()
    ends = table.get_by_role("row", name=re.compile("web shop")).get_by_role("cell").nth(3)
    await expect(ends).to_contain_text("20")
    await expect(quota(desk, "web shop, Images a day: 0 used, 1 left of 1")).to_be_visible()
    await desk.rig.gateway.directory.refresh()
    await buy(desk, key, "an apple")
    with pytest.raises(openai.RateLimitError):
        await buy(desk, key, "a pear")
    await table.get_by_role("button", name=re.compile("^Change ")).click()
    await dialog.get_by_label("Expires in").fill("never")
    await dialog.get_by_label("Images a day").fill("")
    await dialog.get_by_role("button", name="Save").click()
    await expect(ends).to_have_text("never")
    await desk.rig.gateway.directory.refresh()
    await buy(desk, key, "a pear")


async def test_a_concurrent_change_is_not_overwritten(desk: Screen) -> None:
    await make_team(desk, "red", images_a_day=5)
    await desk.page.get_by_role("button", name="Change", exact=True).click()
    await desk.rig.ask_admin("PATCH", "teams/red", json={"limits": {"images_per_day": 7}})
    dialog = desk.page.get_by_role("dialog", name="Change red")
    await dialog.get_by_label("Images a month").fill("100")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Read it again")
    team = (await desk.rig.ask_admin("GET", "teams/red")).json
    assert (team["limits"]["images_per_day"], team["limits"]["images_per_month"]) == (7, None)


async def test_a_teams_unknown_hold_is_shown_kept_and_changed(desk: Screen) -> None:
    await make_team(desk, "red")
    rule = desk.page.locator("dl div", has_text="Repeats of an unknown outcome")
    await expect(rule).to_contain_text("as long as the gateway's configuration says")
    for seconds, shown in (("90", "refused for 1 min 30 s"), (None, "1 min 30 s"), ("0", "bought")):
        await desk.page.get_by_role("button", name="Change", exact=True).click()
        dialog = desk.page.get_by_role("dialog", name="Change red")
        if seconds is not None:
            await dialog.get_by_label("Refuse repeats").fill(seconds)
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        await expect(rule).to_contain_text(shown)
    assert (await desk.rig.ask_admin("GET", "teams/red")).json["unknown_hold_seconds"] == 0


async def test_the_form_of_a_teams_pictures_is_shown_kept_and_changed(desk: Screen) -> None:
    await make_team(desk, "red")
    rule = desk.page.locator("dl div", has_text="Form of pictures")
    await expect(rule).to_contain_text("as the gateway's configuration says")
    for form, shown in (("both", "both"), (None, "both"), ("", "as the gateway's")):
        await desk.page.get_by_role("button", name="Change", exact=True).click()
        dialog = desk.page.get_by_role("dialog", name="Change red")
        if form is not None:
            await dialog.get_by_label("Form of pictures").select_option(form)
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_have_count(0)
        await expect(rule).to_contain_text(shown)


async def test_a_dialog_shows_faults_and_changes_nothing(desk: Screen) -> None:
    await desk.open("/teams")
    await desk.page.get_by_role("button", name="New team").click()
    dialog = desk.page.get_by_role("dialog", name="New team")
    name = dialog.get_by_label("Name", exact=True)
    await expect(name).to_be_focused()
    await name.fill("no good")
    await dialog.get_by_label("Sizes").fill("huge")
    await dialog.get_by_role("button", name="Create team").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("Check Name, Sizes")
    await expect(name).to_be_focused()
    for field, fault in (
        (name, "letters, digits"),
        (dialog.get_by_label("Sizes"), "none of the team's models"),
    ):
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_have_accessible_description(re.compile(fault))
    assert await desk.faults() == []
    assert (await desk.rig.ask_admin("GET", "teams")).json == {"teams": []}


async def test_a_team_is_exported_with_the_numbers_of_its_bars_and_deleted(desk: Screen) -> None:
    await make_team(desk, "red", images_a_day=2)
    await desk.open("/teams")
    heads, red = (await desk.exported()).splitlines()
    assert heads.split(",")[:5] == [
        "Team",
        *(f"Images today: {part}" for part in ("used", "held", "left", "limit")),
    ]
    assert red.startswith("red,0,0,2,2,")
    await desk.open("/teams/red")
    await desk.page.get_by_role("button", name="Delete").click()
    await desk.page.get_by_role("button", name="Delete team").click()
    await expect(desk.page.get_by_text("There are no teams yet")).to_be_visible()
    await desk.open("/teams/red")
    await expect(desk.page.get_by_text("Team not found")).to_be_visible()


async def test_a_thousand_teams_are_found_by_typing(desk: Screen) -> None:
    teams = [Team(name=f"team-{number:04}") for number in range(1_000)]
    store = desk.rig.gateway.store
    generation = (await store.directory.changes(0)).generation
    assert await store.directory.commit(generation, DirectoryWrite(teams=teams))
    await desk.open("/teams")
    table = desk.page.get_by_role("table", name="Teams")
    await expect(table.locator("tbody tr")).to_have_count(50)
    await desk.page.get_by_label("Find").fill("team-07")
    await expect(desk.page.get_by_text(re.compile("^1.50 of 100$"))).to_be_visible()
    await desk.page.get_by_label("Find").fill("0777")
    await expect(table.locator("tbody tr")).to_have_count(1)


LIMITS = {
    "images_per_day": 100,
    "images_per_month": 2_000,
    "cost_per_day_usd": 10,
    "cost_per_month_usd": 150,
    "requests_per_minute": 60,
    "concurrent_requests": 10,
}


async def test_all_limits_fit_a_laptop_and_a_phone(desk: Screen) -> None:
    await desk.rig.ask_admin("PUT", "teams/red", json={"limits": LIMITS})
    await desk.page.set_viewport_size({"width": 1400, "height": 900})
    await desk.open("/teams")
    table = desk.page.get_by_role("table", name="Teams")
    await expect(table.get_by_role("columnheader")).to_have_count(7)
    assert await hidden_width(desk) == 0
    await desk.page.set_viewport_size({"width": 360, "height": 740})
    await expect(table.get_by_role("cell").last).to_be_in_viewport()
    assert await hidden_width(desk) == 0
    assert await desk.faults() == []


async def hidden_width(desk: Screen) -> int:
    """How many pixels of the first table are beyond its right side."""
    script = "(box => box.scrollWidth - box.clientWidth)(document.querySelector('.scroll'))"
    return int(await desk.page.evaluate(script))


async def test_a_viewer_sees_and_changes_nothing(screen: Screen, viewer: str) -> None:
    await screen.rig.ask_admin("PUT", "teams/red", json={"limits": {"images_per_day": 2}})
    await screen.sign_in(viewer)
    await screen.open("/teams/red")
    await expect(screen.page.get_by_text("Signed in as")).to_contain_text("eyes")
    await expect(screen.page.get_by_text("viewer", exact=True)).to_be_visible()
    await expect(quota(screen, "red, Images a day: 0 used, 2 left of 2")).to_be_visible()
    for name in ("Change", "Delete", "New key"):
        await expect(screen.page.get_by_role("button", name=name)).to_have_count(0)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_team_and_its_dialog_are_accessible(desk: Screen, scheme: Scheme) -> None:
    await desk.page.emulate_media(color_scheme=scheme)
    await make_team(desk, "red", images_a_day=2)
    await make_key(desk, "app")
    assert await desk.faults() == []
    await desk.page.get_by_role("button", name="Change", exact=True).click()
    assert await desk.faults() == []
