"""The servers of a measurement: the mock upstream, the gateway and the bare server.

The gateway is the real one with everything switched on: keys, the six limits of every team and the
four of the gateway, cache, metrics, a JSON log in a file, and SQLite on disk.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from gateway.core import key_format
from gateway.core.model import Key, Limits, Team
from gateway.core.money import MICRO
from gateway.server.startup import build_store
from gateway.tenants.store import DirectoryWrite
from tests.benchmarks.driver import Taken, control
from tests.benchmarks.processes import Process, running
from tests.support.directory import write
from tests.support.rig import UPSTREAM_KEY, settings_for

PLENTY = 1_000_000_000

LIMITS = Limits(
    images_per_day=PLENTY,
    images_per_month=PLENTY,
    cost_per_day=PLENTY * MICRO,
    cost_per_month=PLENTY * MICRO,
    requests_per_minute=PLENTY,
    concurrent_requests=PLENTY,
)
"""Every limit is set and checked, and none is reached."""

PERIODS = ("IMAGES_PER_DAY", "IMAGES_PER_MONTH", "COST_PER_DAY_USD", "COST_PER_MONTH_USD")
"""The gateway's own limits, which are set just as high."""

_SETTLING_SECONDS = 0.2
"""Work after a load (a settlement, a log line) belongs to its cost."""

_numbers = itertools.count(1_000_000, 10_000_000)


def fresh() -> int:
    """A number after which ten million numbers are unused."""
    return next(_numbers)


class Figures(Struct, frozen=True, kw_only=True):
    """One measurement.

    `cpu` is CPU seconds for 1,000 requests, `peak` bytes, other times are seconds. `calls` counts
    the calls upstream.
    """

    cpu: float
    p50: float
    p99: float
    peak: int
    requests: int
    failed: int
    calls: int


class Stage:
    """Running servers, with the folder of their data. `environ` is the gateway's."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], mock: Process, gateway: Process
    ) -> None:
        self.folder = folder
        self.mock = mock
        self.gateway = gateway
        self._environ = environ
        self._teams = 0

    async def keys(self, count: int, limits: Limits = LIMITS) -> tuple[str, ...]:
        """Keys of `count` new teams with these limits. The gateway knows them in half a second."""
        settings = settings_for(self.folder, self.mock, **self._environ)
        pepper = self._environ["KEYS_PEPPER"].encode()
        names = [f"team-{number}" for number in range(self._teams, self._teams + count)]
        self._teams += count
        minted = [key_format.mint(secrets.token_bytes) for _ in names]
        keys = [
            Key(
                id=id,
                team=name,
                name="bench",
                digest=key_format.digest(text, pepper),
                created=time.time(),
            )
            for name, (id, text) in zip(names, minted, strict=True)
        ]
        async with build_store(settings.store) as store:
            teams = [Team(name=name, limits=limits) for name in names]
            await write(store.directory, DirectoryWrite(teams=teams, keys=keys))
        return tuple(text for _, text in minted)

    async def measure(self, server: Process, load: Callable[[int], Awaitable[Taken]]) -> Figures:
        """Measure the cost of a load on the server's port."""
        server.forget_peak()
        calls, cpu = await control(self.mock.url, "/calls"), server.cpu_seconds
        taken = await load(server.port)
        await asyncio.sleep(_SETTLING_SECONDS)
        return Figures(
            cpu=(server.cpu_seconds - cpu) / max(1, taken.requests) * 1000,
            p50=taken.p50,
            p99=taken.p99,
            peak=server.peak_bytes,
            requests=taken.requests,
            failed=taken.failed,
            calls=await control(self.mock.url, "/calls") - calls,
        )


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A mock upstream and a gateway with an empty store, until the block ends."""
    with TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        environ = {
            **{f"LIMITS_{period}": str(PLENTY) for period in PERIODS},
            "KEYS_PEPPER": secrets.token_hex(16),
            "STORE_URL": f"sqlite:{folder / 'gateway.db'}",
            "UPSTREAM_API_KEY": UPSTREAM_KEY,
            "SERVER_DRAIN_SECONDS": "1",
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
        }
        async with running(folder, "tests.benchmarks.mock") as mock:
            environ["UPSTREAM_BASE_URL"] = mock.url
            async with running(folder, "gateway", "serve", **environ) as gateway:
                yield Stage(folder, environ, mock, gateway)


@asynccontextmanager
async def bare(on: Stage) -> AsyncIterator[Process]:
    """The bare server with the stage's mock, until the block ends."""
    async with running(on.folder, "tests.benchmarks.bare", on.mock.url) as process:
        yield process
