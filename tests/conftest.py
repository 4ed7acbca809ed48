"""Fixtures for tests of the whole gateway."""

import asyncio
import gc
import re
import signal
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, Phase, settings
from xdist.scheduler import LoadScopeScheduling

import tests.support.environment  # noqa: F401  first of all: others copy the environment
from gateway.stores.port import Store
from tests.conformance.store import MakeStore
from tests.support.bucket import BucketServer, running_server
from tests.support.redis import RedisServer, running_redis
from tests.support.rig import Rig, running_rig
from tests.support.stores import DATABASES, Places
from tests.support.tcp_proxy import TcpProxy

QUICK_REPEATS = 2

SHARING = {
    "tests/promises/test_exactness.py": "replicas",
    "tests/promises/test_revocation.py": "replicas",
    "tests/promises/test_outages.py": "outages",
    "tests/deploy/test_compose.py": "compose",
}
"""Files whose tests share a start of processes for each store, and the name of that start."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--repeats",
        type=int,
        default=QUICK_REPEATS,
        help=f"how often a test repeats what fails by chance (default: {QUICK_REPEATS})",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Otherwise asyncio creates a loop when pytest-asyncio asks for the former one. Nobody closes
    # it, and the warning about that fails any later test.
    asyncio.set_event_loop(None)
    # A shell lets what runs in its background ignore SIGINT, and all programs that this starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A slow machine must not fail a test. Random examples are repeats too.
    examples = 25 if config.getoption("--repeats") <= QUICK_REPEATS else 200
    settings.register_profile(
        "ours",
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("ours")
    # For `make mutants`: the same examples for each mutant, and none is made smaller.
    settings.register_profile(
        "mutants",
        parent=settings.get_profile("ours"),
        max_examples=50,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage: nearly all objects stay until the tests end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before -m selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "repeats" in getattr(item, "fixturenames", ()):
            item.add_marker("repeated")


class SharedStarts(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives tests that share a start of processes to one worker; other tests go one by one.

    xdist's own groups (--dist=loadgroup) have no effect under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        start = SHARING.get(nodeid.partition("::")[0])
        if start is None:
            return nodeid
        store = re.search(r"\[(sqlite|redis)\b", nodeid)
        return f"{start} {store[1]}" if store else start


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedStarts:
    return SharedStarts(config, log)


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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    """Empty data for stores, on one server for all tests that neither stop nor change it."""
    folder = tmp_path_factory.mktemp("places")
    async with running_redis(folder, databases=str(DATABASES)) as server:
        yield Places(folder, server)


@pytest.fixture
async def store(make_store: MakeStore) -> AsyncIterator[Store]:
    """A store on the data of one test: each folder's `make_store` opens it."""
    async with make_store() as store:
        yield store


@pytest.fixture
async def other(make_store: MakeStore) -> AsyncIterator[Store]:
    """A second store on the same data, as another gateway has it."""
    async with make_store() as store:
        yield store


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """The server behind `redis_server`."""
    async with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def redis_server(started_redis: RedisServer) -> AsyncIterator[RedisServer]:
    """An empty Redis for a test that neither stops nor configures it. It may be frozen."""
    async with started_redis.client() as client:
        await client.flushall()
        await client.config_resetstat()
    yield started_redis
    started_redis.thaw()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started_bucket_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[BucketServer]:
    """The server behind `bucket_server`."""
    async with running_server(tmp_path_factory.mktemp("buckets")) as server:
        yield server


@pytest.fixture
async def bucket_server(
    started_bucket_server: BucketServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BucketServer]:
    """A server of buckets, and the environment by which gateways in this process find it."""
    server = started_bucket_server
    await server.accept_keys(True)
    server.proxy = TcpProxy(server.port)
    await server.proxy.start()
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    yield server
    server.thaw()
    await server.proxy.stop()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running gateway with the default configuration and a sandbox that draws dots."""
    async with running_rig(tmp_path) as running:
        yield running
