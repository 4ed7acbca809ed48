"""How long each request to the admin API holds the event loop, with a big store of each kind."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from tests.support.big_store import Size
from tests.support.holds import Held, big_rig, heavy_requests, hold_of
from tests.support.redis import running_redis

FULL = Size(alerts=10_000, changes=20_000)
QUICK = Size(
    teams=20,
    keys=2,
    busy=1,
    images=100_000,
    answers=1_000,
    changes=100,
    alerts=100,
    lines=100,
    error_hours=2,
    latency_hours=2,
)


class Measured(Struct, frozen=True, kw_only=True):
    """The longest holds of one request on one store. `last` marks the store's last one."""

    store: str
    request: str
    held: Held
    last: bool


async def measure(size: Size) -> AsyncIterator[Measured]:
    """Measure all heavy requests, on each store in turn."""
    with TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        async for measured in _measure("SQLite", folder, f"sqlite:{folder / 'gateway.db'}", size):
            yield measured
        async with running_redis(folder / "redis") as server:
            async for measured in _measure("Redis", folder, server.url, size):
                yield measured


async def _measure(store: str, folder: Path, url: str, size: Size) -> AsyncIterator[Measured]:
    now = time.time()
    async with big_rig(folder, url, size, now) as rig:
        requests = heavy_requests(size, now)
        for request in requests:
            held = await hold_of(rig, request)
            last = request is requests[-1]
            yield Measured(store=store, request=request.name, held=held, last=last)
