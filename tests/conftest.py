"""Fixtures for tests of the whole gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.rig import Rig, running_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running gateway with the default configuration, before a sandbox that draws dots."""
    async with running_rig(tmp_path) as running:
        yield running
