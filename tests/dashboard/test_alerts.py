"""The page of alerts: who is told, and what became of each message."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, expect

from gateway.core.model import Limits
from tests.support.browser import opened
from tests.support.rig import FLAT, running_rig

WEBHOOK = """
[alerts.webhooks.ops]
kind = "json"
url_file = "{file}"
"""


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[str]:
    """The address of somebody who takes all that comes."""

    async def take(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response()

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/canary"
    await runner.cleanup()


async def test_a_budget_that_runs_out_is_on_the_page(
    tmp_path: Path, browser: Browser, receiver: str
) -> None:
    file = tmp_path / "url"
    file.write_text(receiver)
    async with (
        running_rig(tmp_path, FLAT + WEBHOOK.format(file=file)) as rig,
        opened(browser, rig) as screen,
    ):
        await screen.sign_in()
        await screen.open("/alerts")
        await expect(screen.page.get_by_role("row", name=re.compile("^ops"))).to_be_visible()
        await expect(screen.page.get_by_text("No alerts sent yet")).to_be_visible()
        key = await rig.key("red", limits=Limits(images_per_day=1))
        assert (await rig.generate(key)).status == 200
        row = screen.page.get_by_role("table", name="Alerts").get_by_role("row", name="sent")

        async def shown() -> bool:
            await screen.page.reload()
            await screen.page.get_by_role("heading", name="Webhooks").wait_for()
            return await row.count() == 1

        async with asyncio.timeout(60):
            while not await shown():
                pass
        await expect(row).to_contain_text("red")
        assert await screen.faults() == []
        assert receiver.rpartition("/")[2] not in await screen.page.content()
