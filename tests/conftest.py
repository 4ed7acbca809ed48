"""Fixtures for tests of the whole gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.rig import Rig, running_rig

# The conformance suites' asserts explain themselves like those of the tests that run them.
pytest.register_assert_rewrite("tests.conformance")

# A busy machine is no reason for a test to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--repeats",
        type=int,
        default=3,
        help="how often a test repeats a load whose faults show by chance (default: 3)",
    )


@pytest.hookimpl(tryfirst=True)  # before -m selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "repeats" in fixtures:
            item.add_marker("repeated")
        if "replicas" in fixtures and isinstance(item, pytest.Function):
            # They share a start of several processes: one worker runs them all (--dist=loadgroup).
            parameters = getattr(item, "callspec", None)
            kind = parameters.params.get("replicas", "") if parameters else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{kind}"))


@pytest.fixture(scope="session")
def repeats(request: pytest.FixtureRequest) -> int:
    """How often a test repeats a load whose faults show by chance."""
    count: int = request.config.getoption("--repeats")
    return count


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
