"""Fixtures for tests of the whole gateway."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.support.rig import Rig, running_rig

# Failed asserts in the conformance suites show their values, like those in test files.
pytest.register_assert_rewrite("tests.conformance")

QUICK_REPEATS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--repeats",
        type=int,
        default=QUICK_REPEATS,
        help=f"how often a test repeats what fails by chance (default: {QUICK_REPEATS})",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A slow machine must not fail a test. Random examples are repeats too.
    examples = 50 if config.getoption("--repeats") <= QUICK_REPEATS else 200
    settings.register_profile(
        "ours",
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)  # before -m selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "repeats" in fixtures:
            item.add_marker("repeated")
        if "replicas" in fixtures and isinstance(item, pytest.Function):
            # They share processes, so one worker runs them all (--dist=loadgroup).
            parameters = getattr(item, "callspec", None)
            kind = parameters.params.get("replicas", "") if parameters else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{kind}"))


@pytest.fixture(scope="session")
def repeats(request: pytest.FixtureRequest) -> int:
    """How often a test repeats what fails by chance."""
    count: int = request.config.getoption("--repeats")
    return count


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """Make log lines as cheap as in a running gateway.

    structlog's default draws each traceback with all variables, which takes a tenth of a second.
    """
    plain = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running gateway with the default configuration and a sandbox that draws dots."""
    async with running_rig(tmp_path) as running:
        yield running
