"""The page of alerts: the webhooks, and the state of each message."""

import asyncio
import re
from pathlib import Path

from playwright.async_api import Browser, expect

from gateway.core.model import Limits
from tests.support.browser import opened
from tests.support.receiver import running_receiver
from tests.support.rig import FLAT, running_rig

WEBHOOK = """
[alerts.webhooks.ops]
kind = "json"
url_file = "{file}"
"""


async def test_a_spent_budget_is_on_the_page(tmp_path: Path, browser: Browser) -> None:
    file = tmp_path / "url"
    toml = FLAT + WEBHOOK.format(file=file)
    async with running_receiver() as receiver:
        file.write_text(receiver.url)
        async with running_rig(tmp_path, toml) as rig, opened(browser, rig) as screen:
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
            assert "PSECRET" not in await screen.page.content()  # a part of its secret path
