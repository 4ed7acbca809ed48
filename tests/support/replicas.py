"""Several gateway processes that share a store and an upstream, with clocks that disagree."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp

from gateway.config.load import read_settings
from gateway.core.errors import StoreUnavailable
from gateway.core.model import NO_LIMITS, Limits, Team
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.server.startup import open_store
from gateway.stores.port import Store
from gateway.tenants.changes import Actor
from gateway.tenants.operations import create_key
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.directory import put_teams
from tests.support.money import AWAY, PRICE, assert_spent, drawing, until
from tests.support.process import SERVE, START_SECONDS, GatewayProcess, running_process
from tests.support.program import Program
from tests.support.redis import RedisServer, running_redis
from tests.support.rig import FLAT, UPSTREAM_KEY, Got

SHIFTS = (0.0, 30.0, -30.0, 86_400.0)
"""By how many seconds the clocks of gateways that share a Redis are wrong."""

StoreKind = Literal["sqlite", "redis"]
STORES: tuple[StoreKind, ...] = ("sqlite", "redis")

NO_SETTINGS: Mapping[str, str] = {}


class Replicas:
    """The gateways, and the sandbox and the store behind them as a test sees them.

    Requests go to each gateway in turn. `environ` names the store and the pepper, as for
    `tests.support.rig.settings_for`.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: Sandbox,
        store: Store,
        toml: str,
        environ: dict[str, str],
        server: RedisServer | None = None,
    ) -> None:
        self.gateways: list[GatewayProcess] = []
        self.sandbox = sandbox
        self.store = store
        self._server = server
        self._folder = folder
        self._toml = toml
        self._environ = environ
        self._running = AsyncExitStack()
        self._turn = 0
        self._teams = 0

    @property
    def redis(self) -> RedisServer:
        """The Redis that they share."""
        assert self._server is not None
        return self._server

    async def __aenter__(self) -> "Replicas":
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._running.aclose()

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
        _, text = await create_key(
            self.store.directory,
            team=team,
            name="test",
            lifetime=None,
            pepper=self._environ["KEYS_PEPPER"].encode(),
            by=Actor("a test", time.time()),
            limits=limits,
        )

        async def is_known() -> bool:
            return {(await each.models(text)).status for each in self.gateways} <= {200}

        await until(is_known, START_SECONDS)
        return text

    async def operator(self, *arguments: str) -> str:
        """Run a command on the store, which must succeed; returns its output."""
        program = Program(self._folder, **self._environ)
        code, out, err = await program.run(*arguments)
        assert code == 0, err
        return out.strip()

    async def account(self, team: str = "team") -> Account:
        """The team's account as the store has it."""
        return await self._account(team_account(team))

    async def gateway_account(self) -> Account:
        """The gateway-wide account."""
        return await self._account(GATEWAY)

    async def is_closed(self, team: str = "team") -> bool:
        """Whether the store answers and the team has no open holds."""
        try:
            return not (await self.account(team)).holds
        except StoreUnavailable:
            return False

    async def assert_books(self, team: str, images: int, cost: int | None = None) -> None:
        """Check that account and usage agree on these purchases, and that nothing is held."""
        cost = images * PRICE if cost is None else cost
        assert_spent(await self.account(team), images, cost)
        rows = await self.store.usage.report((), None, None, team)
        assert sum(row.images_bought for row in rows) == images
        assert sum(row.cost for row in rows) == cost

    async def _account(self, name: str) -> Account:
        return (await self.store.accounts.load([name])).accounts[0][0]

    async def _start(self, shift: float) -> GatewayProcess:
        shifted = ("-m", "tests.support.replica", str(shift))
        return await self._running.enter_async_context(
            running_process(
                self._folder,
                self.sandbox.url,
                self._toml,
                program=shifted if shift else SERVE,
                **self._environ,
            )
        )


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
    """Two gateways that share a database file, or four that share a Redis as store and cache.

    `shifts` are the errors of their clocks in seconds, one for each gateway over Redis. `redis`
    are settings as `running_redis` takes them. `environ` adds to the gateways' environment.
    """
    server = None
    async with AsyncExitStack() as stack:
        if store == "redis":
            server = await stack.enter_async_context(running_redis(folder / "redis", **redis))
            shared = {"STORE_URL": server.url, "CACHE_URL": server.url}
        else:
            shared = {"STORE_URL": f"sqlite:{folder / 'gateway.db'}"}
            shifts = (0.0, 0.0)  # on one machine they have one clock
        named = {**shared, "KEYS_PEPPER": secrets.token_hex(32), **environ}
        stand_in = await stack.enter_async_context(Sandbox(sandbox or drawing()))
        opened = await open_shared(stand_in, named)
        stack.push_async_callback(opened.close)
        replicas = Replicas(folder, stand_in, opened, toml, named, server)
        await stack.enter_async_context(replicas)
        await replicas.start(*shifts)
        yield replicas


async def patiently(asker: GatewayProcess | Replicas, key: str, **fields: Any) -> Got:
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


async def open_shared(sandbox: Sandbox, named: dict[str, str]) -> Store:
    """The gateways' store, opened for the test."""
    upstream = {"UPSTREAM_BASE_URL": sandbox.url, "UPSTREAM_API_KEY": UPSTREAM_KEY}
    variables = {f"GATEWAY_{name}": value for name, value in {**upstream, **named}.items()}
    settings, _ = read_settings("", variables, needs_upstream=True)
    return await open_store(settings, named["KEYS_PEPPER"].encode())
