"""The page that shows the OpenAPI document, in a browser: its examples are run as they stand."""

import asyncio
import os

import msgspec
import pytest
from playwright.async_api import expect

from tests.support.browser import Screen
from tests.support.rig import ADMIN_TOKEN, Rig


async def run(line: str, key: str) -> str:
    """What a line for a shell prints."""
    environ = {"PATH": os.environ["PATH"], "GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN}
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", f"{line} --fail-with-body -sS"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**environ, "OPENAI_API_KEY": key},
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (line, out)
    return out.decode()


async def example(screen: Screen, name: str) -> str:
    """The line that is shown of an operation, once it is unfolded."""
    told = screen.page.locator("#operations > details").filter(has_text=f"{name} ·")
    await told.locator("> summary").click()
    pre = told.locator(".inner > pre").first
    await expect(pre).to_be_visible()
    return await pre.inner_text()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("POST /admin/v1/keys", "Web shop"),
        ("PATCH /admin/v1/teams/{team}", "300"),
        ("GET /admin/v1/usage", "team,day,requests"),
        ("POST /admin/v1/cache/purge", "design"),
        ("POST /v1/images/generations", "data"),
        ("GET /v1/usage", "design"),
    ],
    ids=["key", "team", "usage", "purge", "image", "own usage"],
)
async def test_an_example_runs_as_it_stands(
    screen: Screen, rig: Rig, name: str, found: str
) -> None:
    key = await rig.key("design")
    await screen.page.goto(f"{rig.gateway.admin_url}/docs")
    assert found in await run(await example(screen, name), key)


async def test_schemas_are_folded_and_webhooks_are_there(screen: Screen, rig: Rig) -> None:
    page = screen.page
    await page.goto(f"{rig.gateway.admin_url}/docs")
    told = page.locator("#operations > details").filter(has_text="budget_reached")
    await told.locator("> summary").click()
    schema = told.get_by_text('"resets_at"')
    await expect(schema).not_to_be_visible()
    await told.get_by_text("Body: schema").click()
    await expect(schema).to_be_visible()
    assert screen.said == []


async def test_every_example_is_taken(rig: Rig) -> None:
    """Those with a body, in the order of a newcomer: what they name is there by then."""
    document = (await rig.admin("/openapi.json")).json
    key = await rig.key("design")
    id = key.partition("_")[0]
    for path, item in document["paths"].items():
        for method, told in item.items():
            if method == "servers" or "requestBody" not in told:
                continue
            body = told["requestBody"]["content"]["application/json"]["example"]
            if (method, path) == ("post", "/admin/v1/teams"):
                body = {**body, "team": "another"}
            base = rig.gateway.admin_url if path.startswith("/admin") else rig.url
            token = ADMIN_TOKEN if path.startswith("/admin") else key
            async with rig.session.request(
                method,
                base + path.format(team="design", id=id),
                data=msgspec.json.encode(body),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            ) as answer:
                assert answer.status in (200, 201), (path, await answer.text())
