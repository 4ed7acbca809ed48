"""Several gateways that share a Redis, in this process, before one sandbox."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.redis import RedisServer, running_redis
from tests.support.rig import FLAT, Rig, settings_for

PEPPER = "pepper-of-gateways-that-share-a-store"


class Gateways:
    """The gateways, each with a rig's short cuts, and what they share."""

    def __init__(self, rigs: list[Rig], sandbox: Sandbox, redis: RedisServer) -> None:
        self.rigs = rigs
        self.sandbox = sandbox
        self.redis = redis

    async def refresh(self) -> None:
        """Have all know at once what was written to the directory."""
        for rig in self.rigs:
            await rig.gateway.directory.refresh()


def shared(redis: RedisServer, **environ: str) -> dict[str, str]:
    """The environment of gateways that share this Redis as store and as cache."""
    return {
        "STORE_URL": redis.url,
        "CACHE_URL": redis.url,
        "KEYS_PEPPER": PEPPER,
        **environ,
    }


@asynccontextmanager
async def running_gateways(
    folder: Path, count: int, sandbox: SandboxSettings, toml: str = FLAT, **environ: str
) -> AsyncIterator[Gateways]:
    """So many gateways, until the block ends. `environ` is as `settings_for` takes it."""
    stand_in = Sandbox(sandbox)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(running_redis(folder / "redis"))
        await stand_in.start("127.0.0.1", 0)
        stack.push_async_callback(stand_in.stop)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        rigs = []
        for _ in range(count):
            gateway = Gateway(settings_for(folder, stand_in, toml, **shared(redis, **environ)))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            rigs.append(Rig(gateway, stand_in, session))
        yield Gateways(rigs, stand_in, redis)
