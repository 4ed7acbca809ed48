"""One simulated run: several gateways and their store, clients, and trouble, all from one seed."""

import asyncio
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from math import inf
from random import Random
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.cache.memory import MemoryCache
from gateway.config.load import read_settings
from gateway.config.settings import Settings
from gateway.core import key_format
from gateway.core.errors import GatewayError
from gateway.core.model import NO_LIMITS, Key, Limits, Team
from gateway.core.periods import month_of
from gateway.proxy.context import LEASE_SLACK_SECONDS
from gateway.proxy.election import LocalElection, SharedElection
from gateway.proxy.operations import OpenOperations
from gateway.proxy.pictures import Pictures
from gateway.proxy.pipeline import Proxy
from gateway.quota.account import GATEWAY, team_account
from gateway.quota.ledger import Ledger
from gateway.tenants.directory import Directory
from tests.simulation.clients import Client, Habit, Wanted
from tests.simulation.events import DEATHS, Event, Recorded, Rules, Trouble
from tests.simulation.history import violations
from tests.simulation.parts import (
    Link,
    Server,
    SimAccounts,
    SimDirectory,
    SimLeases,
    SimSharedCache,
    Weather,
    account_of,
)
from tests.simulation.upstream import BAD, GOOD, USUAL, Kind, SimUpstream
from tests.simulation.world import Died, Process, World

PEPPER = b"p" * 32
PRICE = 40_000
FLAT = """
[models."gpt-image-2"]
prices = 0.04
"""

STARTS = [
    datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp(),
    datetime(2026, 3, 14, 23, 59, 20, tzinfo=UTC).timestamp(),
    datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC).timestamp(),
]

WEATHERS = (
    [Weather()] * 3
    + [Weather(lost=0.01, late=0.02, late_seconds=0.5)] * 3
    + [Weather(lost=0.03, late=0.05, late_seconds=3.0)] * 2
    + [Weather(lost=0.10, late=0.10, late_seconds=10.0)]
    + [Weather(late=0.20, late_seconds=5.0)] * 2
)


class Plan(Struct, frozen=True, kw_only=True):
    """What a seed stands for."""

    gateways: int
    cache: str
    start: float
    seconds: float
    weather: Weather
    is_calm: bool
    settings: Settings
    teams: list[Team]
    requests: int
    prompts: int
    troubles: int
    bursts: int
    replicated: bool
    habits: list[Habit]
    hides_hangups: bool
    upstream: Mapping[Kind, int]
    named: float
    later: float


@lru_cache(1)
def _base() -> Settings:
    settings, _ = read_settings(FLAT, {}, needs_upstream=False)
    return settings


def plan_of(seed: int) -> Plan:
    """Draw the plan of a seed. A quarter of them has no trouble, so all promises hold strictly."""
    rng = Random(seed)
    is_calm = rng.random() < 0.25
    timeout, hold = rng.choice([5.0, 12.0, 20.0]), rng.choice([60, 60, 60, 10, 0])
    limits = _limits(rng) if rng.random() < 0.3 else NO_LIMITS
    limits = replace(limits, requests_per_minute=None, concurrent_requests=None)
    base = _base()
    upstream = replace(base.upstream, timeout_seconds=timeout, unknown_hold_seconds=hold)
    habits: list[list[Habit]] = [["once"], ["sdk"], ["hasty"], ["once", "sdk", "stubborn", "hasty"]]
    return Plan(
        gateways=rng.choice([1, 2, 2, 3, 4]),
        cache=rng.choice(["own", "handed over", "shared"]),
        start=rng.choice(STARTS),
        seconds=rng.choice([10.0, 40.0, 90.0]),
        weather=Weather() if is_calm else rng.choice(WEATHERS),
        is_calm=is_calm,
        settings=replace(base, upstream=upstream, limits=limits),
        teams=[
            Team(name=name, limits=_limits(rng), cache=rng.random() < 0.6)
            for name in ["red", "blue"][: rng.choice([1, 1, 2])]
        ],
        requests=rng.choice([8, 20, 40]),
        prompts=rng.choice([1, 3, 50]),
        troubles=0 if is_calm else rng.choice([0, 1, 2, 4]),
        bursts=rng.choice([0, 1, 3]),
        replicated=rng.random() < 0.3,
        habits=rng.choice([*habits, habits[-1], habits[-1]]),
        hides_hangups=rng.random() < 0.2,
        upstream=rng.choice([GOOD, USUAL, BAD] if is_calm else [USUAL, USUAL, BAD]),
        named=rng.choice([0.0, 0.3, 1.0]),
        later=rng.choice([0.0, 0.5]),
    )


def _limits(rng: Random) -> Limits:
    """Limits that the requests of a run can reach."""
    names = ["images_per_day", "images_per_month", "requests_per_minute", "concurrent_requests"]
    limits = {name: rng.choice([1, 3, 5, 10]) for name in names if rng.random() < 0.35}
    for name in ("cost_per_day", "cost_per_month"):
        if rng.random() < 0.2:
            limits[name] = rng.choice([1, 4, 7]) * PRICE + rng.choice([0, 1])
    return Limits(**limits)


class Gateway:
    """A gateway in a process of its own."""

    def __init__(self, run: "Run", number: int) -> None:
        self.process = Process(run.world, f"gateway {number}")
        self.link = Link(run.server)
        plan, rng = run.plan, run.rng
        wall = rng.uniform(-0.5, 0.5) + plan.start
        memory = MemoryCache(2**20, 2**20, clock=run.world.time)
        cache = SimSharedCache(memory, self.link) if plan.cache == "shared" else memory
        accounts = SimAccounts(self.link)
        self.ledger = Ledger(accounts, spread=rng.random)
        self.directory = Directory(
            SimDirectory(plan.teams, run.keys),  # type: ignore[arg-type]  # it is only read
            pepper=PEPPER,
            wall=lambda: run.world.time() + wall,
            monotonic=lambda: 0.0,
        )
        new_id = run.new_id
        if plan.cache == "own":
            self.election: LocalElection | SharedElection = LocalElection()
        else:
            self.election = SharedElection(
                SimLeases(self.link), new_id=new_id, cache_is_shared=lambda: plan.cache == "shared"
            )
        self.operations = OpenOperations(
            self.ledger,
            self.election.leases,
            gateway=new_id(),
            wall=lambda: run.world.time() + wall,
        )
        self.proxy = Proxy(
            lambda: plan.settings,
            directory=self.directory,
            cache=cache,
            ledger=self.ledger,
            upstream=run.upstream,
            election=self.election,
            operations=self.operations,
            pictures=Pictures(lambda: run.world.time() + wall),
            wall=lambda: run.world.time() + wall,
            spread=rng.random,
            new_id=new_id,
            amend=memory.amend,
        )

    async def serve(self) -> None:
        """Start, again and again until the store answers."""
        await self.directory.refresh()
        await self.election.start()
        await self.operations.start()
        self.ledger._background.spawn(self.ledger._work())
        while True:
            try:
                await self.ledger._sweep()
                break
            except GatewayError:
                await asyncio.sleep(0.5)
        self.ledger._background.every(2.0, self.ledger._sweep, survive=GatewayError)

    async def stop(self, seconds: float) -> None:
        """Drain, and close everything, as a gateway does on SIGTERM."""
        self.proxy.draining = True
        await self.proxy.drain(seconds)
        await self.operations.close()
        await self.election.close()
        await self.ledger.close()


class Run:
    """One run. `history` has its events, each list in order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.plan = plan = plan_of(seed)
        self.rng = Random(seed + 1)
        self.world = World()
        self.server = Server(
            self.world, Random(seed + 2), plan.start, plan.weather, plan.replicated
        )
        self.upstream = SimUpstream(self.server, PRICE, plan.upstream, Random(seed + 3))
        self.history: list[Event] = self.upstream.events
        if plan.weather != Weather():
            lossy = Trouble(at=0.0, clock=plan.start, kind="lossy", until=inf)
            self.history.append(lossy)
        self.keys: list[Key] = []
        self.texts: list[str] = []
        for team in plan.teams:
            for _ in range(self.rng.choice([1, 2])):
                id, text = key_format.mint(self.rng.randbytes)
                limits = _limits(self.rng) if self.rng.random() < 0.3 else NO_LIMITS
                digest = key_format.digest(text, PEPPER)
                key = Key(
                    id=id, team=team.name, name="k", digest=digest, created=0.0, limits=limits
                )
                self.keys.append(key)
                self.texts.append(text)
        self.bursts = [self.rng.uniform(0.5, plan.seconds) for _ in range(plan.bursts)]
        self._born = 0
        self.gateways = [self._new_gateway() for _ in range(plan.gateways)]

    def new_id(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    def _new_gateway(self) -> Gateway:
        self._born += 1
        gateway = Gateway(self, self._born)
        self.world.call_soon(
            lambda: gateway.process.start(gateway.serve()),
        )
        return gateway

    # -- clients --------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        rng, plan = self.rng, self.plan
        await asyncio.sleep(self._moment())
        index = rng.randrange(len(self.keys))
        key = self.keys[index]
        wanted = Wanted(
            key=key,
            text=self.texts[index],
            team=next(team for team in plan.teams if team.name == key.team),
            prompt=f"picture {rng.randrange(plan.prompts)}",
            images=rng.choice([1, 1, 1, 2]),
            control=rng.choice([(), (), (), (), (), (), (), (), ("no-cache",), ("no-store",)]),
        )
        if rng.random() < plan.named:  # of its own, or that of all equal requests
            own = f"name of {wanted.images} of {wanted.prompt} {wanted.control}"
            name = rng.choice([f"name of call {number}", own])
            wanted = replace(wanted, name=name, later=rng.random() < plan.later)
        habit = rng.choice(plan.habits)
        await Client(self, f"call-{number}", habit, wanted).work()

    def _moment(self) -> float:
        """When a client asks: at any time, or together with others."""
        if self.plan.bursts and self.rng.random() < 0.8:
            return self.rng.choice(self.bursts) + self.rng.uniform(0.0, 0.01)
        return self.rng.uniform(0.5, self.plan.seconds)

    # -- trouble --------------------------------------------------------------------------------

    async def _trouble(self) -> None:
        rng, plan = self.rng, self.plan
        await asyncio.sleep(rng.uniform(0.0, plan.seconds))
        loses = "failed over" if plan.replicated else "went back"
        kind = rng.choice([*DEATHS, "paused", "cut off", "store away", loses, "clock jumped"])
        lease = plan.settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS
        seconds = rng.choice([0.3, 3.0, 8.0, lease + 5.0])
        gateway = rng.choice(self.gateways)
        who = gateway.process.name if kind in (*DEATHS, "paused", "cut off") else ""
        if kind == "went back":
            seconds = min(seconds, 8.0)
        elif kind == "clock jumped":
            seconds = rng.choice([5.0, lease + 10.0, 90.0])
        at = self.times()
        until = at["at"] + seconds if kind != "clock jumped" else at["at"]
        if kind == "stopped":
            await self._stop(gateway, seconds)
            until = self.world.time()
        trouble = Trouble(**at, kind=kind, until=until, gateway=who)  # type: ignore[arg-type]
        self.history.append(trouble)
        await self._make(kind, gateway, seconds)

    async def _make(self, kind: str, gateway: Gateway, seconds: float) -> None:
        """Make this trouble, and end it after so many seconds."""
        server, process = self.server, gateway.process
        match kind:
            case "killed" if not process.is_dead:
                process.kill()
                await asyncio.sleep(seconds)
                self._replace(gateway)
            case "paused":
                process.pause()
                await asyncio.sleep(seconds)
                process.resume()
            case "cut off":
                gateway.link.is_cut = True
                await asyncio.sleep(seconds)
                gateway.link.is_cut = False
            case "store away":
                server.is_frozen = True
                await asyncio.sleep(seconds)
                server.thaw()
            case "went back":
                shelf = server.shelf.copy()
                await asyncio.sleep(seconds)
                server.go_back(shelf)
            case "failed over":
                server.replica_is_away = True
                await asyncio.sleep(seconds)
                server.fail_over()
            case "clock jumped":
                server.jumped += seconds

    async def _stop(self, gateway: Gateway, seconds: float) -> None:
        """Stop a gateway that drains for so many seconds, and start another one."""
        process = gateway.process
        with suppress(Died):
            await process.reply(process.start(gateway.stop(seconds)))
        if not process.is_dead:
            process.kill()
            self._replace(gateway)

    def _replace(self, gateway: Gateway) -> None:
        self.gateways[self.gateways.index(gateway)] = self._new_gateway()

    # -- the whole ------------------------------------------------------------------------------

    async def _all(self) -> None:
        plan = self.plan
        clients = [self._client(number) for number in range(plan.requests)]
        troubles = [self._trouble() for _ in range(plan.troubles)]
        await asyncio.gather(*clients, *troubles)
        self.server.weather = Weather()
        # Every upstream call ends, every hold is settled or swept, every late outcome arrives.
        lease = plan.settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS
        latest = self.world.time() + 2 * lease + 20
        while self.world.time() < latest:
            await asyncio.sleep(5.0)
            if self._is_quiet():
                break

    def _is_quiet(self) -> bool:
        """Whether nothing is under way any more that could change what was seen or recorded."""
        accounts = [account_of(self.server.shelf, name) for name in self.server.shelf.accounts]
        return not (
            self.upstream.at_work
            or any(account.holds for account in accounts)
            or any(each.proxy.flights or each.ledger.unwritten for each in self.gateways)
        )

    def find_violations(self) -> list[str]:
        """Run it, and return the broken promises."""
        gc.disable()  # a run is short, and a fifth of its time would go there
        with capture_logs() as lines:
            try:
                self.world.run_until_complete(self._all())
                defects = [f"logged: {line}" for line in lines if self._is_defect(line)]
            finally:
                self.world.destroy()
                gc.enable()
        judged = violations(self.history, self._recorded(), self._rules())
        return [*defects, *judged, *self._disagreements()]

    @staticmethod
    def _is_defect(line: Mapping[str, Any]) -> bool:
        """Whether a gateway should not have logged this. One that stops cannot wait for a store."""
        return line["log_level"] == "error" and not line["event"].startswith("outcomes not written")

    def report(self, found: Sequence[str]) -> str:
        """The run in words: its plan, its history, and the broken promises."""
        plan = self.plan
        facts = [
            f"{plan.gateways} gateways, cache {plan.cache}, {plan.weather}",
            f"a replica acknowledges each purchase: {plan.replicated}",
            f"clients {sorted(set(plan.habits))}, hidden: {plan.hides_hangups}",
            f"upstream {plan.upstream}",
            f"upstream {plan.settings.upstream.timeout_seconds} s, hold "
            f"{plan.settings.upstream.unknown_hold_seconds} s, gateway {plan.settings.limits}",
            *(f"{team.name}: {team.limits}, cache {team.cache}" for team in plan.teams),
            *(f"key {key.id} of {key.team}: {key.limits}" for key in self.keys),
        ]
        events = sorted(self.history, key=lambda event: event.at)
        lines = [*facts, *map(str, events), *(found or ["no violation"])]
        return f"seed {self.seed}:\n" + "\n".join(f"  {line}" for line in lines)

    def _rules(self) -> Rules:
        plan = self.plan
        limits = {("team", team.name): team.limits for team in plan.teams}
        limits |= {("key", key.id): key.limits for key in self.keys}
        limits["gateway", ""] = plan.settings.limits
        lease = plan.settings.upstream.timeout_seconds + LEASE_SLACK_SECONDS
        return Rules(
            limits=limits,
            lease=lease,
            shared=plan.cache == "shared",
            reachable=plan.cache != "own",
            hold=plan.settings.upstream.unknown_hold_seconds,
        )

    def _recorded(self) -> dict[str, Recorded]:
        shelf, recorded = self.server.shelf, {}
        for team in self.plan.teams:
            entries = [entry for entry in shelf.entries.values() if entry.team == team.name]
            recorded[team.name] = Recorded(
                images=sum(entry.images_bought for entry in entries),
                cost=sum(entry.cost for entry in entries),
                unknown_images=sum(entry.images_unknown for entry in entries),
                open_holds=len(account_of(shelf, team_account(team.name)).holds),
            )
        return recorded

    def _disagreements(self) -> Iterator[str]:
        """Compare each account with the usage entries of its month."""
        shelf = self.server.shelf
        accounts = {team_account(team.name): team.name for team in self.plan.teams}
        if self.plan.settings.limits:
            accounts[GATEWAY] = ""
        for name, team in accounts.items():
            month = account_of(shelf, name).month
            cost = sum(
                entry.cost
                for entry in shelf.entries.values()
                if team in ("", entry.team) and month_of(entry.at) == month.period
            )
            if (month.cost, month.held_cost) != (cost, 0):
                held = month.held_cost
                yield f"{name}: spent {month.cost}, held {held}, its entries have {cost}"

    def times(self) -> dict[str, float]:
        """The fields `at` and `clock` of an event."""
        return {"at": self.world.time(), "clock": self.server.now()}
