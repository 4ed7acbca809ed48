"""Several gateways that share a store and an upstream.

They are processes with clocks that disagree, or run in this process.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp

from gateway.core.model import NO_LIMITS, Limits, Team
from gateway.server.gateway import Gateway
from gateway.server.startup import open_store
from gateway.stores.port import Store
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.directory import new_key, put_teams
from tests.support.process import START_SECONDS, GatewayProcess, Program, running_process
from tests.support.redis import RedisServer, running_redis
from tests.support.rig import FLAT, Books, Client, Got, Rig, rig_of, settings_for
from tests.support.steps import AWAY, drawing, metric, until

SHIFTS = (0.0, -30.0, 86_400.0)
"""By how many seconds the clocks of gateways that share a Redis are wrong."""

StoreKind = Literal["sqlite", "redis"]
STORES: tuple[StoreKind, ...] = ("sqlite", "redis")

SAME_MACHINE = (0.0, 0.0)
"""The clocks of gateways that share a database file."""

NO_SETTINGS: Mapping[str, str] = {}


class Replicas(Books):
    """The gateways, and the sandbox and the store behind them as a test sees them.

    Requests go to each gateway in turn. `environ` names the store and the pepper, as for
    `tests.support.rig.settings_for`. The gateways run until `running` closes.
    """

    redis: RedisServer
    """The Redis that they share, if it is their store."""

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        store: Store,
        toml: str,
        environ: dict[str, str],
        running: AsyncExitStack,
    ) -> None:
        super().__init__(store)
        self.gateways: list[GatewayProcess] = []
        self.sandbox = sandbox
        self._folder = folder
        self._toml = toml
        self._environ = environ
        self._running = running
        self._turn = 0
        self._teams = 0

    async def start(self, *shifts: float) -> list[GatewayProcess]:
        """Start a gateway for each of these shifts of its clock, in seconds, all at once."""
        try:
            async with asyncio.TaskGroup() as group:
                starting = [group.create_task(self._start(shift)) for shift in shifts]
        except* RuntimeError as failures:
            raise failures.exceptions[0] from None
        started = [task.result() for task in starting]
        self.gateways += started
        return started

    async def start_at(self, host: str, **environ: str) -> GatewayProcess:
        """Start a gateway on the default ports of an address of loopback of its own.

        `environ` adds to its environment.
        """
        ports = {"SERVER_PORT": "8080", "SERVER_ADMIN_PORT": "9090"}
        hosts = {"SERVER_HOST": host, "SERVER_ADMIN_HOST": host}
        started = await self._start(0.0, **hosts, **ports, **environ)
        self.gateways.append(started)
        return started

    async def kill(self, gateway: GatewayProcess) -> None:
        """End one with SIGKILL; later requests go to the others."""
        self.gateways.remove(gateway)
        await gateway.kill()

    def next(self) -> GatewayProcess:
        """The next gateway in turn."""
        self._turn += 1
        return self.gateways[self._turn % len(self.gateways)]

    async def generate(self, key: str, prompt: str | None = None, **fields: Any) -> Got:
        """Ask the next gateway for images, as `GatewayProcess.generate` does."""
        return await self.next().generate(key, prompt, **fields)

    def new_team(self) -> str:
        """A name that no team has yet."""
        self._teams += 1
        return f"new-{self._teams}"

    def buying(self, key: str, number: int) -> list[asyncio.Task[Got]]:
        """`number` distinct requests under way, at each gateway in turn."""
        return [asyncio.create_task(self.generate(key)) for _ in range(number)]

    async def key(
        self,
        team: str = "team",
        *,
        limits: Limits = NO_LIMITS,
        key_limits: Limits = NO_LIMITS,
        **policy: Any,
    ) -> str:
        """A new key of the team, which is created (or replaced) with these limits and policy."""
        await put_teams(self.store.directory, [Team(name=team, limits=limits, **policy)])
        return await self.further_key(team, limits=key_limits)

    async def further_key(self, team: str, *, limits: Limits = NO_LIMITS) -> str:
        """A new key of a team that exists, with limits of its own; every gateway knows it.

        A gateway that got no processor for a second refuses keys until it has read the store.
        """
        pepper = self._environ["KEYS_PEPPER"].encode()
        text = await new_key(self.store.directory, pepper, team, limits=limits)

        async def is_known() -> bool:
            return {(await each.models(text)).status for each in self.gateways} <= {200}

        await until(is_known, START_SECONDS)
        return text

    async def operator(self, *arguments: str) -> str:
        """Run a command on the store, which must succeed; returns its output."""
        program = Program(self._folder, **self._environ)
        code, out, err = await program.command(*arguments)
        assert code == 0, err
        return out.strip()

    async def _start(self, shift: float, **environ: str) -> GatewayProcess:
        environ = {**self._environ, **environ}
        running = running_process(
            self._folder, self.sandbox.url, self._toml, str(shift or ""), **environ
        )
        return await self._running.enter_async_context(running)


@asynccontextmanager
async def running_replicas(
    folder: Path,
    toml: str = FLAT,
    sandbox: SandboxSettings | None = None,
    *,
    store: StoreKind = "redis",
    shifts: Sequence[float] = SHIFTS,
    redis: Mapping[str, str] = NO_SETTINGS,
    **environ: str,
) -> AsyncIterator[Replicas]:
    """At most two gateways that share a database file, or several that share a Redis as store and
    cache.

    `shifts` are the errors of their clocks in seconds, one for each gateway over Redis. `redis`
    are settings as `running_redis` takes them. `environ` adds to the gateways' environment.
    """
    async with AsyncExitStack() as running:
        shared = {"STORE_URL": f"sqlite:{folder / 'gateway.db'}"}
        if store == "redis":
            server = await running.enter_async_context(running_redis(folder / "redis", **redis))
            shared = {"STORE_URL": server.url, "CACHE_URL": server.url}
        named = {**shared, "KEYS_PEPPER": secrets.token_hex(32), **environ}
        upstream = await running.enter_async_context(Sandbox(sandbox or drawing()))
        settings = settings_for(folder, upstream, **named)
        opened = await open_store(settings, named["KEYS_PEPPER"].encode())
        running.push_async_callback(opened.close)
        replicas = Replicas(folder, upstream, opened, toml, named, running)
        if store == "redis":
            replicas.redis = server
        await replicas.start(*(shifts if store == "redis" else SAME_MACHINE[: len(shifts)]))
        yield replicas


async def patiently(asker: Client | Replicas, key: str, **fields: Any) -> Got:
    """Ask again while the store is too slow, as the SDKs do: a busy machine may stall."""
    while (got := await asker.generate(key, **fields)).status == 503:
        assert got.error == AWAY
    return got


async def mortally(gateway: GatewayProcess, key: str, **fields: Any) -> Got | None:
    """The final answer of a gateway, or None if it dies first."""
    try:
        return await patiently(gateway, key, **fields)
    except aiohttp.ClientError:
        return None


# -- in this process ------------------------------------------------------------------------------

PEPPER = "pepper-of-gateways-that-share-a-store"


class Gateways:
    """The gateways, each with a rig's short cuts, and the parts that they share."""

    redis: RedisServer
    """The Redis that they share. A single gateway has none."""

    def __init__(self, rigs: list[Rig], sandbox: Sandbox) -> None:
        self.rigs = rigs
        self.sandbox = sandbox

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
    sandbox: SandboxSettings | Sandbox,
    toml: str = FLAT,
    **environ: str,
) -> AsyncIterator[Gateways]:
    """`count` gateways until the block ends: one has a database file, several share a Redis.

    `sandbox` may be one that does not run yet. `environ` is as `settings_for` takes it.
    """
    upstream = sandbox if isinstance(sandbox, Sandbox) else Sandbox(sandbox)
    async with AsyncExitStack() as running, upstream:
        if count > 1:
            server = await running.enter_async_context(running_redis(folder / "redis"))
            environ = shared(server, **environ)
        gateways = Gateways([], upstream)
        for _ in range(count):
            gateway = Gateway(settings_for(folder, upstream, toml, **environ))
            gateways.rigs.append(await running.enter_async_context(rig_of(gateway, upstream)))
        if count > 1:
            gateways.redis = server
        yield gateways
