"""Debian's Chromium, driven by Playwright, and the checks of a dashboard page."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Page,
    ViewportSize,
    async_playwright,
)

from tests.support.rig import ADMIN_TOKEN, Rig

AXE = Path(__file__).parents[1] / "dashboard" / "axe.min.js"
PATIENCE_MS = 60_000
"""Timeout of every action on a page, on a busy machine."""

PHONE: ViewportSize = {"width": 360, "height": 740}
DESK: ViewportSize = {"width": 1280, "height": 900}
Scheme = Literal["light", "dark"]
SCHEMES = ["light", pytest.param("dark", marks=pytest.mark.exhaustive)]
"""The parameters of a test that looks at a page in both colour schemes."""

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP intern.example 127.0.0.1",
]


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser until the block ends."""
    path = shutil.which("chromium")
    assert path is not None, "Debian's chromium is missing: run `make servers`"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Screen:
    """A tab with its own cookies.

    `said` holds the page's messages on its console, without the browser's own lines about answers
    above 399 and about TLS.
    """

    def __init__(self, page: Page, rig: Rig) -> None:
        self.page = page
        self.rig = rig
        self.said = list[str]()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        # The second one is about every page without TLS whose host is no loopback.
        failed = message.text.startswith(
            ("Failed to load resource", "The Cross-Origin-Opener-Policy header has been ignored")
        )
        if message.type in ("error", "warning") and not failed:
            self.said.append(message.text)

    async def open(self, address: str = "/") -> None:
        """Go to an address of the dashboard, as if typed."""
        await self.page.goto(self.rig.gateway.admin_url + address)

    async def sign_in(self, token: str = ADMIN_TOKEN) -> None:
        """Sign in without the form."""
        answer = await self.page.request.post(
            f"{self.rig.gateway.admin_url}/admin/v1/session", data={"token": token}
        )
        assert answer.status == 200

    @property
    def address(self) -> str:
        """The address bar's content after the host."""
        return self.page.url.removeprefix(self.rig.gateway.admin_url)

    async def focused(self) -> str:
        """The accessible text of the focused element."""
        script = "document.activeElement.ariaLabel ?? document.activeElement.innerText"
        return str(await self.page.evaluate(script))

    async def exported(self) -> str:
        """Press the last "Export CSV" of the page, and return the file's text."""
        async with self.page.expect_download() as waiting:
            await self.page.get_by_role("button", name="Export CSV").last.click()
        return (await (await waiting.value).path()).read_bytes().decode()

    async def is_too_wide(self) -> bool:
        """Whether the page scrolls sideways."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    async def faults(self) -> list[str]:
        """The serious and critical faults that axe finds: rule and place."""
        if await self.page.evaluate("typeof axe") == "undefined":
            # Past the Content-Security-Policy: as from the browser's own tools.
            await self.page.evaluate(AXE.read_text())
        found: Mapping[str, Any] = await self.page.evaluate("axe.run()")
        return [
            f"{fault['id']}: {node['target']} {node['failureSummary']}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]


@asynccontextmanager
async def opened(
    browser: Browser, rig: Rig, *, scheme: Scheme = "light", size: ViewportSize = DESK
) -> AsyncIterator[Screen]:
    """A fresh tab until the block ends. Its page must not have logged a complaint."""
    context = await browser.new_context(
        color_scheme=scheme,
        viewport=size,
        accept_downloads=True,
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        screen = Screen(await context.new_page(), rig)
        yield screen
    finally:
        await context.close()
    assert screen.said == []
