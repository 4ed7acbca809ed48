"""One or several gateways in this process, with one sandbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.redis import RedisServer, running_redis
from tests.support.rig import FLAT, Got, Rig, settings_for
from tests.support.steps import metric

PEPPER = "pepper-of-gateways-that-share-a-store"


class Gateways:
    """The gateways, each with a rig's short cuts, and the parts that they share."""

    def __init__(self, rigs: list[Rig], sandbox: Sandbox, server: RedisServer | None) -> None:
        self.rigs = rigs
        self.sandbox = sandbox
        self._server = server

    @property
    def redis(self) -> RedisServer:
        """The Redis that they share. A single gateway has none."""
        assert self._server is not None
        return self._server

    async def key(self, team: str = "team", **options: Any) -> str:
        """A new key that all gateways know."""
        key = await self.rigs[0].key(team, **options)
        await self.refresh()
        return key

    async def refresh(self) -> None:
        """Have all gateways read the directory now."""
        for rig in self.rigs:
            await rig.gateway.directory.refresh()

    async def crowd(self, key: str, size: int, **fields: Any) -> list[Got]:
        """The same request many times at once, at each gateway in turn."""
        asked = (self.rigs[each % len(self.rigs)].generate(key, **fields) for each in range(size))
        return list(await asyncio.gather(*asked))

    async def metric(self, name: str, **labels: str) -> float:
        """A metric summed over all gateways."""
        return sum([await metric(rig, name, **labels) for rig in self.rigs])


def shared(redis: RedisServer, **environ: str) -> dict[str, str]:
    """The environment of gateways that share this Redis as store and as cache."""
    return {"STORE_URL": redis.url, "CACHE_URL": redis.url, "KEYS_PEPPER": PEPPER, **environ}


@asynccontextmanager
async def running_gateways(
    folder: Path,
    count: int,
    sandbox: SandboxSettings,
    toml: str = FLAT,
    **environ: str,
) -> AsyncIterator[Gateways]:
    """`count` gateways until the block ends: one has a database file, several share a Redis.

    `environ` is as `settings_for` takes it.
    """
    stand_in, server = Sandbox(sandbox), None
    async with AsyncExitStack() as stack:
        if count > 1:
            server = await stack.enter_async_context(running_redis(folder / "redis"))
            environ = shared(server, **environ)
        await stack.enter_async_context(stand_in)
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        rigs = []
        for _ in range(count):
            gateway = Gateway(settings_for(folder, stand_in, toml, **environ))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            rigs.append(Rig(gateway, stand_in, session))
        yield Gateways(rigs, stand_in, server)
