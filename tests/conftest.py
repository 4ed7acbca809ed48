"""Fixtures for tests of the whole gateway."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.alone import taking_part
from tests.support.rig import Rig, running_rig

# The conformance suites' asserts explain themselves like those of the tests that run them.
pytest.register_assert_rewrite("tests.conformance")

# A busy machine is no reason for a test to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def taken_part(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """With the tests of other processes, or alone where the test is marked so."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all processes
    with taking_part(folder, alone=request.node.get_closest_marker("alone") is not None):
        yield


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
