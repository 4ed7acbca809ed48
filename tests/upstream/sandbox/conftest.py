from collections.abc import AsyncIterator

import pytest

from gateway.upstream.sandbox import Sandbox
from tests.support.sandboxed import Asker, asking, dots


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    """A sandbox that draws dots."""
    async with asking(Sandbox(dots())) as running:
        yield running
