"""A gateway and a browser. The tests share one browser and its event loop in each process."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect
from pytest_asyncio import is_async_test

from gateway.config.admin_tokens import mint, toml_block
from tests.support.browser import PATIENCE_MS, Screen, opened, running_browser
from tests.support.rig import FLAT, Rig, running_rig

VIEWER = mint(lambda size: b"v" * size)
HERE = Path(__file__).parent

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and is_async_test(item):
            # First, as pytest-asyncio has put its own there already.
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A gateway in which every image costs the same, with an admin token and a viewer's."""
    async with running_rig(tmp_path, FLAT + toml_block("eyes", "viewer", VIEWER)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def screen(browser: Browser, rig: Rig) -> AsyncIterator[Screen]:
    """A tab that nobody has signed in with."""
    async with opened(browser, rig) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def desk(screen: Screen) -> Screen:
    """A tab with an admin's session, at no page yet."""
    await screen.sign_in()
    return screen


@pytest.fixture
def viewer() -> str:
    """The token that may read alone."""
    return VIEWER
