"""Fixtures for tests of the whole gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.rig import Rig, running_rig

# A busy machine is no reason for a test to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Log lines cost next to nothing, as when serving.

    structlog's own default draws each traceback with all variables, for a tenth of a second on
    the event loop.
    """
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running gateway with the default configuration, before a sandbox that draws dots."""
    async with running_rig(tmp_path) as running:
        yield running
