"""The page of the API documentation in a browser, and its examples in a shell."""

import asyncio
import os

import msgspec
from playwright.async_api import expect

from gateway.upstream.sandbox import UpstreamFault
from tests.support.browser import Screen
from tests.support.rig import ADMIN_TOKEN, Rig


async def run(line: str, key: str) -> str:
    """Run a line in a shell, and return its output."""
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
    """Unfold an operation, and return its example line."""
    shown = screen.page.locator("#operations > details").filter(has_text=f"{name} ·")
    await shown.locator("> summary").click()
    pre = shown.locator(".inner > pre").first
    await expect(pre).to_be_visible()
    return await pre.inner_text()


async def test_examples_run_as_they_are_shown(screen: Screen, rig: Rig) -> None:
    key = await rig.key("design")
    await screen.page.goto(f"{rig.gateway.admin_url}/docs")
    for name, found in (
        ("POST /admin/v1/keys", "Web shop"),
        ("PATCH /admin/v1/teams/{team}", "300"),
        ("GET /admin/v1/usage", "team,day,requests"),
        ("POST /admin/v1/cache/purge", "design"),
        ("POST /v1/images/generations", "data"),
        ("GET /v1/usage", "design"),
    ):
        assert found in await run(await example(screen, name), key)


async def test_schemas_are_folded_and_webhooks_are_listed(screen: Screen, rig: Rig) -> None:
    page = screen.page
    await page.goto(f"{rig.gateway.admin_url}/docs")
    shown = page.locator("#operations > details").filter(has_text="budget_reached")
    await shown.locator("> summary").click()
    schema = shown.get_by_text('"resets_at"')
    await expect(schema).not_to_be_visible()
    await shown.get_by_text("Body: schema").click()
    await expect(schema).to_be_visible()
    assert screen.said == []


async def test_every_example_body_is_accepted(rig: Rig) -> None:
    """Send each example body, in the order of the document."""
    document = (await rig.admin("/openapi.json")).json
    key = await rig.key("design")
    id = key.partition("_")[0]
    rig.sandbox.fault = UpstreamFault(kind="status", status=504, times=1)
    unknown = (await rig.generate(key)).headers["X-Request-Id"]
    for path, item in document["paths"].items():
        for method, shown in item.items():
            if method == "servers" or "requestBody" not in shown:
                continue
            body = shown["requestBody"]["content"]["application/json"]["example"]
            if (method, path) == ("post", "/admin/v1/teams"):
                body = {**body, "team": "another"}
            base = rig.gateway.admin_url if path.startswith("/admin") else rig.url
            token = ADMIN_TOKEN if path.startswith("/admin") else key
            async with rig.session.request(
                method,
                base + path.format(team="design", id=unknown if "/purchases/" in path else id),
                data=msgspec.json.encode(body),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            ) as answer:
                assert answer.status in (200, 201), (path, await answer.text())
