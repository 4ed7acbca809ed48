"""Two gateway processes over one store, the sandbox in a third, clients, and trouble from a seed.

The seed decides the limits, the order of the troubles and what clients ask. The processes run in
real time, so a seed does not repeat a run to the letter.
"""

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

import aiohttp
import msgspec

from gateway.core.key_format import parse
from gateway.core.model import NO_LIMITS, Limits, Team
from gateway.proxy.context import LEASE_SLACK_SECONDS
from gateway.quota.ledger import SWEEP_SECONDS
from gateway.server.startup import open_store
from tests.chaos.judge import NO_CONNECTION, Clock, Disturbed, outcome, recorded_of, upstream_events
from tests.chaos.processes import ClockFile, Replica, recording_sandbox
from tests.chaos.upstream import read_seen
from tests.simulation.events import Answered, Asked, Ended, Event, Rules, Trouble
from tests.simulation.history import violations
from tests.support.directory import new_key, put_teams
from tests.support.process import GatewayProcess, Program
from tests.support.redis import RedisServer, free_port
from tests.support.replicas import StoreKind
from tests.support.rig import FLAT, PRICE, UPSTREAM_KEY, Books, settings_for
from tests.support.steps import until
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

CLIENTS = 20
TIMEOUT_SECONDS = 2.0
LEASE_SECONDS = TIMEOUT_SECONDS + LEASE_SLACK_SECONDS
HEALED_SECONDS = LEASE_SECONDS + SWEEP_SECONDS + 30.0
"""After the last trouble, when all holds are closed at the latest."""

FAULTY = 0.06
"""The share of calls to which the sandbox applies a fault of its own."""

Make = Callable[[Random], Awaitable[None]]
"""Makes a trouble, and ends it."""


class Chaos:
    """One run of so many seconds. `history` has what clients saw and what was done."""

    redis: RedisServer
    """The store, if it is a Redis."""

    def __init__(self, seed: int, folder: Path, store: StoreKind, seconds: float) -> None:
        self.history: list[Event] = []
        self.replicas: list[Replica] = []
        self.link: TcpProxy | None = None
        """The second gateway's way to its Redis."""
        self.clock = Clock()
        self.clocks: list[ClockFile] = []
        """The clocks of the gateways, if they can jump."""
        self._seed = seed
        self._rng = Random(seed)
        self._folder = folder
        self._store_kind = store
        self._seconds = seconds
        self._ends = 0.0
        self._disturbances: list[Disturbed] = []
        self._calls = 0
        self._keys: list[tuple[str, Limits, str]] = []
        share = self._rng.choice([1.0, 3.0])
        self.teams = [
            Team(name="crowded", limits=Limits(concurrent_requests=self._rng.choice([3, 6]))),
            Team(name="hasty", limits=Limits(requests_per_minute=self._rng.choice([60, 150]))),
            Team(name="poor", limits=Limits(images_per_day=int(seconds * share) + 10)),
            Team(name="thrifty", limits=Limits(cost_per_month=int(seconds * share) * PRICE + 1)),
            Team(name="free", cache=False),
        ]
        self.limits = Limits(images_per_day=int(seconds * self._rng.choice([20, 100])))

    async def prepare(self, books: Books, pepper: bytes, sandbox: Program, away: TcpProxy) -> None:
        """Create teams and keys, and take the processes."""
        self.books, self.sandbox, self.away = books, sandbox, away
        await put_teams(books.store.directory, self.teams)
        for team in self.teams:
            for limits in (NO_LIMITS, Limits(images_per_day=50)):
                key = await new_key(books.store.directory, pepper, team.name, limits=limits)
                self._keys.append((key, limits, team.name))

    async def run(self) -> list[str]:
        """Run it to its end, and return the broken promises."""
        await asyncio.gather(*(replica.start() for replica in self.replicas))
        self._ends = time.monotonic() + self._seconds
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(Random(f"{self._seed} {number}")))
            group.create_task(self._troubles("gateways", self._gateway_troubles()))
            group.create_task(self._troubles("others", self._other_troubles()))
        names = [team.name for team in self.teams]

        async def all_closed() -> bool:
            return all([await self.books.is_closed(name) for name in names])

        await until(all_closed, HEALED_SECONDS, every=0.2)
        ends = await asyncio.gather(*(each.gateway.terminate() for each in self.replicas))
        found = [f"a gateway ended with {code}" for code in ends if code]
        for replica in self.replicas:
            replica.lines += replica.gateway.lines()
            found += [f"logged: {line}" for line in replica.lines if _is_defect(line)]
        holds = {name: len((await self.books.account(name)).holds) for name in names}
        shown = await self._operator("usage", "--by", "team", "--format", "json")
        recorded = recorded_of(msgspec.json.decode(shown), holds)
        seen = read_seen(self._folder / "seen")
        self.history += upstream_events(
            seen, self.history, self._disturbances, self.clock, TIMEOUT_SECONDS
        )
        self.history.sort(key=lambda event: event.at)
        limits = {("team", team.name): team.limits for team in self.teams}
        limits |= {("key", parse(key) or ""): own for key, own, _ in self._keys}
        limits["gateway", ""] = self.limits
        shared = self._store_kind == "redis"
        rules = Rules(limits=limits, lease=LEASE_SECONDS, shared=shared)
        if self.bought < self._seconds / 3 or self.troubles < self._seconds / 10:
            found.append(f"{self.bought} purchases, {self.troubles} troubles: no real test")
        return [*found, *violations(self.history, recorded, rules)]

    @property
    def bought(self) -> int:
        """How many calls the upstream answered with images."""
        return sum(isinstance(each, Ended) and each.how == "delivered" for each in self.history)

    @property
    def troubles(self) -> int:
        """How many troubles there were."""
        return len(self._disturbances)

    async def _operator(self, *arguments: str) -> str:
        code, out, err = await self.replicas[0].gateway.command(*arguments)
        assert code == 0, err
        return out

    # -- clients ------------------------------------------------------------------------------

    async def _client(self, rng: Random) -> None:
        while time.monotonic() < self._ends:
            if up := [replica for replica in self.replicas if replica.is_up]:
                await self._ask(rng, rng.choice(up))
            await asyncio.sleep(rng.uniform(0.0, 0.1))

    async def _ask(self, rng: Random, replica: Replica) -> None:
        """Ask for a picture that others may want now, too, or for one of its own."""
        self._calls += 1
        call = f"{self._seed}-{self._calls}"
        key, _, team = rng.choice(self._keys)
        shared = f"{int(time.monotonic() / 2)} {rng.randrange(4)}"
        prompt = rng.choice([shared, call])
        images = rng.choice([1, 1, 2])
        fresh = rng.random() < 0.1
        patience = rng.choice([20.0, 20.0, 20.0, rng.uniform(0.02, 1.0)])
        asked = Asked(
            **self.clock.times(time.time()),
            call=call,
            team=team,
            key=parse(key) or "",
            prompt=prompt,
            images=images,
            gateway=replica.name,
            fresh=fresh or team == "free",
        )
        self.history.append(asked)
        headers = {"X-Request-Id": call, **({"Cache-Control": "no-cache"} if fresh else {})}
        answer: dict[str, Any]
        try:
            async with asyncio.timeout(patience):
                answer = outcome(
                    await replica.gateway.generate(key, prompt, n=images, headers=headers)
                )
        except aiohttp.ClientConnectorError:
            answer = {"outcome": "lost", "why": NO_CONNECTION}
        except (TimeoutError, aiohttp.ClientError) as failure:
            answer = {"outcome": "lost", "why": type(failure).__name__}
        times = self.clock.times(time.time())
        self.history.append(Answered(**times, call=call, **answer))

    # -- trouble ------------------------------------------------------------------------------

    async def _troubles(self, stream: str, kinds: Sequence[Make]) -> None:
        rng = Random(f"{self._seed} {stream}")
        while time.monotonic() < self._ends:
            await asyncio.sleep(rng.uniform(0.2, 2.0))
            await rng.choice(kinds)(rng)

    def _gateway_troubles(self) -> Sequence[Make]:
        return [self._kill, self._kill, self._pause]

    def _other_troubles(self) -> Sequence[Make]:
        kinds: list[Make] = [self._stall_upstream, self._cut_upstream, self._stop_upstream]
        if self._store_kind == "redis":
            kinds += [self._freeze_store, self._restart_store, self._cut_off, self._lose_replies]
        if self.clocks:
            kinds += [self._jump] * 4
        return kinds

    async def _kill(self, rng: Random) -> None:
        replica = rng.choice(self.replicas)
        async with self._trouble("killed", replica.name):
            await replica.kill()
            await asyncio.sleep(rng.choice([0.0, 1.0]))
        await replica.start()

    async def _pause(self, rng: Random) -> None:
        """Stop a gateway for a moment, for longer than its calls, or for longer than its leases."""
        replica = rng.choice(self.replicas)
        async with self._trouble("paused", replica.name):
            replica.gateway.send(signal.SIGSTOP)
            await asyncio.sleep(rng.choice([0.3, TIMEOUT_SECONDS + 0.5, LEASE_SECONDS + 1.5]))
            replica.gateway.send(signal.SIGCONT)

    async def _freeze_store(self, rng: Random) -> None:
        async with self._trouble("store away"):
            self.redis.freeze()
            await asyncio.sleep(rng.choice([0.3, 1.5, 4.0]))
            self.redis.thaw()

    async def _restart_store(self, rng: Random) -> None:
        async with self._trouble("store away"):
            await rng.choice([self.redis.kill, self.redis.stop])()
            await asyncio.sleep(rng.choice([0.0, 2.0]))
            await self.redis.start()

    async def _cut_off(self, rng: Random) -> None:
        """Cut the connections between the second gateway and its store."""
        assert self.link is not None
        async with self._trouble("cut off", self.replicas[1].name):
            if rng.random() < 0.5:
                self.link.cut()
            else:
                await self.link.stop()
                await asyncio.sleep(rng.choice([0.3, 3.0]))
                await self.link.start()

    async def _lose_replies(self, rng: Random) -> None:
        """Lose all that the store answers to the second gateway: it knows not what was written."""
        assert self.link is not None
        async with self._trouble("cut off", self.replicas[1].name):
            self.link.drop_replies = True
            await asyncio.sleep(rng.choice([0.05, 1.0]))
            self.link.drop_replies = False
            self.link.cut()

    async def _stall_upstream(self, rng: Random) -> None:
        at = time.time()
        self.sandbox.send(signal.SIGSTOP)
        await asyncio.sleep(rng.choice([0.3, TIMEOUT_SECONDS + 0.5]))
        self.sandbox.send(signal.SIGCONT)
        self._disturbances.append(Disturbed(at=at, until=time.time() + 0.5, kind="stalled"))

    async def _cut_upstream(self, rng: Random) -> None:
        at = time.time()
        self.away.cut()
        self._disturbances.append(Disturbed(at=at, until=time.time(), kind="cut"))

    async def _stop_upstream(self, rng: Random) -> None:
        at = time.time()
        await self.away.stop()
        await asyncio.sleep(rng.choice([0.1, 1.0]))
        await self.away.start()
        self._disturbances.append(Disturbed(at=at, until=time.time(), kind="cut"))

    async def _jump(self, rng: Random) -> None:
        """Clocks jump. A database file has the clock of its gateways, and never runs backwards.

        Over Redis each gateway's own clock is wrong, which must not matter.
        """
        if self._store_kind == "redis":
            rng.choice(self.clocks).set(rng.uniform(-100.0, 100.0))
            return
        async with self._trouble("clock jumped"):
            seconds = rng.choice([3.0, LEASE_SECONDS + 3.0, 70.0])
            self.clock.jump(time.time(), seconds)
            for clock in self.clocks:
                clock.set(self.clock.ahead)

    @asynccontextmanager
    async def _trouble(
        self,
        kind: Literal["killed", "paused", "cut off", "store away", "clock jumped"],
        gateway: str = "",
    ) -> AsyncIterator[None]:
        at = time.time()
        yield
        until = time.time()
        times = self.clock.times(at)
        self.history.append(Trouble(**times, kind=kind, until=until, gateway=gateway))
        self._disturbances.append(Disturbed(at=at, until=until, gateway=gateway))

    def report(self, found: list[str]) -> str:
        """The broken promises, the troubles, and the events of the calls that are named."""
        words = set(" ".join(found).split())
        events = [
            event
            for event in self.history
            if isinstance(event, Trouble) or (len(words) < 1_000 and event.call in words)
        ]
        return "\n".join(map(str, [f"seed {self._seed}:", *found, *events, *self._disturbances]))


def _is_defect(line: dict[str, Any]) -> bool:
    return "text" in line or "exception" in line or line["level"] in ("error", "critical")


@asynccontextmanager
async def chaos(
    seed: int, folder: Path, store: StoreKind, seconds: float, *, jumps: bool = False
) -> AsyncIterator[Chaos]:
    """All processes of a run. With `jumps` the clocks of the gateways jump."""
    run = Chaos(seed, folder, store, seconds)
    pepper = secrets.token_hex(32)
    async with AsyncExitStack() as running:
        sandbox = await running.enter_async_context(recording_sandbox(folder, seed, FAULTY, 0.4))
        away = await running.enter_async_context(tcp_proxy(int(sandbox.url.rpartition(":")[2])))
        url = f"http://127.0.0.1:{away.port}"
        environ = {
            "UPSTREAM_BASE_URL": url,
            "UPSTREAM_API_KEY": UPSTREAM_KEY,
            "UPSTREAM_CONNECT_SECONDS": "1",
            "UPSTREAM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            "LIMITS_IMAGES_PER_DAY": str(run.limits.images_per_day),
            "KEYS_PEPPER": pepper,
        }
        stores = [{"STORE_URL": f"sqlite:{folder / 'gateway.db'}"}] * 2
        if jumps:
            run.clocks = [ClockFile(folder / f"clock-{number}") for number in range(2)]
        if store == "redis":
            # A Redis that is killed must lose nothing that it acknowledged: see docs/replicas.md.
            durable = {"save": "", "appendonly": "yes", "appendfsync": "always"}
            run.redis = RedisServer(folder / "redis", free_port(), durable)
            await run.redis.start()
            running.push_async_callback(run.redis.kill)
            run.link = await running.enter_async_context(tcp_proxy(run.redis.port))
            urls = [run.redis.url, f"redis://127.0.0.1:{run.link.port}/0"]
            stores = [{"STORE_URL": url, "CACHE_URL": url} for url in urls]
        connector = aiohttp.TCPConnector(limit=0)
        session = await running.enter_async_context(aiohttp.ClientSession(connector=connector))
        for number, own in enumerate(stores):
            gateway = GatewayProcess(folder, FLAT, session, {**environ, **own})
            if jumps:
                gateway.environ = run.clocks[number].environ
            running.push_async_callback(gateway.kill)
            run.replicas.append(Replica(number, gateway))
        settings = settings_for(folder, SimpleNamespace(url=url), **{**environ, **stores[0]})
        opened = await open_store(settings, pepper.encode())
        running.push_async_callback(opened.close)
        await run.prepare(Books(opened), pepper.encode(), sandbox, away)
        yield run
