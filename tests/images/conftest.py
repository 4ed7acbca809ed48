"""An image store in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.image_store import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "images")
    async with bench.store:
        yield bench
