"""The dashboard under a path prefix, behind an nginx that rewrites Host.

`intern.example` is no loopback name for the browser. So, as in a network without TLS, it sends
Origin but no Sec-Fetch-Site.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.test_docs import example
from tests.support.browser import Screen, opened
from tests.support.redis import free_port
from tests.support.rig import ADMIN_TOKEN, FLAT, Rig, running_rig
from tests.support.steps import until

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

_CONFIG = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    server {{
        listen 127.0.0.1:{port};
        location /gw/ {{ proxy_pass {admin_url}/; }}
    }}
}}
"""


@asynccontextmanager
async def proxied(browser: Browser, folder: Path, toml: str) -> AsyncIterator[tuple[Screen, str]]:
    """A tab, and the URL of the dashboard at the proxy. `toml` has its port as PORT."""
    port = free_port()
    async with running_rig(folder, toml.replace("PORT", str(port)) + FLAT) as rig:
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port, admin_url=rig.gateway.admin_url))
        nginx = await asyncio.create_subprocess_exec("nginx", "-c", str(config))
        try:
            await until(lambda: _listens(rig, port))
            async with opened(browser, rig) as screen:
                yield screen, f"http://intern.example:{port}/gw/"
        finally:
            nginx.terminate()
            await nginx.wait()


async def _listens(rig: Rig, port: int) -> bool:
    try:
        async with rig.session.get(f"http://127.0.0.1:{port}/gw/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def sign_in(page: Page) -> None:
    await page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    await page.get_by_role("button", name="Sign in").click()


async def test_the_dashboard_works_under_a_prefix(browser: Browser, tmp_path: Path) -> None:
    toml = '[server]\nadmin_public_url = "http://intern.example:PORT/gw"\n'
    async with proxied(browser, tmp_path, toml) as (screen, url):
        await screen.rig.key("design")
        page, loaded = screen.page, list[str]()
        page.on("request", lambda request: loaded.append(request.url))
        await page.goto(f"{url}teams/design?from=2026-11-01")
        await sign_in(page)
        await expect(page.get_by_role("heading", name="design", exact=True)).to_be_visible()
        (cookie,) = await page.context.cookies()
        assert (cookie.get("name"), cookie.get("path")) == ("gateway_session", "/gw/")

        await page.get_by_role("link", name="Overview").click()
        await expect(page).to_have_url(f"{url}?from=2026-11-01")
        await page.get_by_role("link", name="Activity").click()
        await expect(page).to_have_url(f"{url}activity?from=2026-11-01")
        await page.go_back()
        await expect(page).to_have_url(f"{url}?from=2026-11-01")
        await page.reload()
        await page.get_by_role("link", name="Teams").click()
        await page.get_by_role("button", name="New team").click()
        await page.get_by_role("textbox", name="Name").fill("red")
        await page.get_by_role("button", name="Create team").click()
        await expect(page).to_have_url(f"{url}teams/red?from=2026-11-01")
        await expect(page.get_by_role("heading", name="red", exact=True)).to_be_visible()

        await page.get_by_role("link", name="API reference").click()
        await expect(page).to_have_url(f"{url}docs")
        assert f'"{url}admin/v1/teams"' in await example(screen, "GET /admin/v1/teams")
        await page.goto(f"{url}alerts")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_text("You are signed out.")).to_be_visible()
        assert await page.context.cookies() == []
        assert [address for address in loaded if not address.startswith((url, "data:"))] == []


async def test_without_the_public_url_another_origin_is_refused(
    browser: Browser, tmp_path: Path
) -> None:
    async with proxied(browser, tmp_path, "") as (screen, url):
        await screen.page.goto(f"{url}teams/x/y/z")
        await sign_in(screen.page)
        await expect(screen.page.get_by_role("alert")).to_have_text(re.compile("admin_public_url"))
