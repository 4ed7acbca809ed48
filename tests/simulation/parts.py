"""The simulated outside: a network that loses and delays, a store that freezes and goes back.

The parts implement the ports of the gateway: accounts, leases, directory, and the cache that
gateways share.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.cache.memory import AnswerCache, MemoryCache
from gateway.core.deadline import Deadline
from gateway.core.errors import StoreUnavailable
from gateway.core.model import AuditEntry, Bought, Entry, Key, Team
from gateway.proxy.leases import Lease, LeaseEvent, Rival
from gateway.quota.account import EMPTY, Account
from gateway.quota.operations import NONE
from gateway.quota.store import Change, Loaded, RecordChange
from gateway.stores.codec import (
    decode_account,
    decode_operations,
    encode_account,
    encode_operations,
)
from gateway.tenants.store import DirectoryChanges
from tests.simulation.world import World

T = TypeVar("T")

PATIENCE_SECONDS = 1.0
"""How long the client of the store waits for a reply."""


class Weather(Struct, frozen=True):
    """How bad the network is: the shares of messages that are lost or late, and how late."""

    lost: float = 0.0
    late: float = 0.0
    late_seconds: float = 0.0


class Shelf(Struct):
    """All that the store holds."""

    accounts: dict[str, tuple[bytes, int]] = {}
    operations: dict[str, tuple[bytes, bytes]] = {}
    gateways: dict[str, float] = {}
    entries: dict[str, Entry] = {}
    leases: dict[str, tuple[str, float]] = {}
    waited: set[str] = set()
    left: dict[str, tuple[Bought, float]] = {}
    answers: dict[str, Bought] = {}

    def copy(self) -> "Shelf":
        values = {name: getattr(self, name).copy() for name in self.__struct_fields__}
        return Shelf(**values)


class Server:
    """The store's process and the network before it. Works on one command at a time."""

    def __init__(
        self, world: World, rng: Random, start: float, weather: Weather, replicated: bool
    ) -> None:
        self.world = world
        self.rng = rng
        self.weather = weather
        self.shelf = Shelf()
        self.is_frozen = False
        self.jumped = 0.0
        self.replica_is_away = False
        self.subscribers: dict[asyncio.Queue[LeaseEvent | None], Link] = {}
        self._start = start
        self._latest = 0.0
        self._waiting: list[Callable[[], None]] = []
        self._versions = count(1)
        self._is_replicated = replicated
        self._replica = Shelf()
        self._unreplicated: list[tuple[Shelf, Callable[[], None]]] = []

    def now(self) -> float:
        """The store's clock, which never runs backwards."""
        self._latest = max(self._latest, self._start + self.world.time() + self.jumped)
        return self._latest

    def next_version(self) -> int:
        """A version that no state had before, not even one that the store has lost."""
        return next(self._versions)

    def thaw(self) -> None:
        """Run the commands that arrived meanwhile, those that were given up included."""
        self.is_frozen = False
        waiting, self._waiting = self._waiting, []
        for command in waiting:
            command()

    def replicate(self, then: Callable[[], None]) -> None:
        """Send the state to the replica, if there is one, and call back once that has it."""
        if not self._is_replicated:
            then()
            return
        self._unreplicated.append((self.shelf.copy(), then))
        self.world.outside(self.rng.uniform(0.000_1, 0.01), self._replicate)

    def _replicate(self) -> None:
        if not self.replica_is_away:
            for state, then in self._unreplicated:
                self._replica = state
                then()
            self._unreplicated.clear()

    def fail_over(self) -> None:
        """Make the replica the primary: what it does not have is lost, and never acknowledged."""
        self.shelf = self._replica.copy()
        self._unreplicated.clear()
        self.replica_is_away = False

    def go_back(self, shelf: Shelf) -> None:
        self.shelf = shelf.copy()

    def arrive(self, command: Callable[[], None]) -> None:
        if self.is_frozen:
            self._waiting.append(command)
        else:
            command()


class Link:
    """One process's connection to the server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_cut = False

    async def call(self, command: Callable[[Shelf], T], *, replicated: bool = False) -> T:
        """Run a command at the server. Raises StoreUnavailable, and then it may still run later.

        With `replicated` the reply waits for the replica, if there is one.
        """
        server = self.server
        reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def run() -> None:
            result = command(server.shelf)
            if replicated:
                server.replicate(lambda: send(result))
            else:
                send(result)

        def send(result: T) -> None:
            if not self._is_lost():
                server.world.outside(self._delay(), lambda: answer(result))

        def answer(result: T) -> None:
            if not reply.done():
                reply.set_result(result)

        if self.is_cut and server.rng.random() < 0.5:  # refused at once, or silence
            await asyncio.sleep(0.001)
            raise StoreUnavailable
        if not self._is_lost():
            server.world.outside(self._delay(), lambda: server.arrive(run))
        try:
            async with Deadline(PATIENCE_SECONDS):
                return await reply
        except TimeoutError:
            raise StoreUnavailable from None

    def send(self, event: Callable[[], None]) -> None:
        """Send an event from the server to the process."""
        if not self._is_lost():
            self.server.world.outside(self._delay(), event)

    def _is_lost(self) -> bool:
        return self.is_cut or self.server.rng.random() < self.server.weather.lost

    def _delay(self) -> float:
        rng, weather = self.server.rng, self.server.weather
        seconds = rng.uniform(0.000_1, 0.005)
        if rng.random() < weather.late:
            seconds += rng.expovariate(1 / weather.late_seconds)
        return seconds


class SimAccounts:
    """The AccountStore."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server = link.server

    async def load(self, names: Sequence[str], records: Sequence[str] = ()) -> Loaded:
        def command(shelf: Shelf) -> Loaded:
            empty, none = (encode_account(EMPTY), 0), (encode_operations(NONE), b"")
            found = [shelf.accounts.get(name, empty) for name in names]
            accounts = [(decode_account(state), version) for state, version in found]
            kept = [shelf.operations.get(name, none) for name in records]
            operations = [(decode_operations(state), stamp) for state, stamp in kept]
            return Loaded(accounts, self._server.now(), operations)

        return await self._link.call(command)

    async def swap(
        self,
        changes: Sequence[Change],
        entries: Sequence[Entry],
        records: Sequence[RecordChange] = (),
        audit: Sequence[AuditEntry] = (),
    ) -> bool:
        states = {change.name: encode_account(change.account) for change in changes}

        def command(shelf: Shelf) -> bool:
            for change in changes:
                if shelf.accounts.get(change.name, (b"", 0))[1] != change.version:
                    return False
            for record in records:
                if shelf.operations.get(record.name, (b"", b""))[1] != record.stamp:
                    return False
            for record in records:
                shelf.operations.pop(record.name, None)
                if record.operations.all:
                    stamp = str(self._server.next_version()).encode()
                    shelf.operations[record.name] = encode_operations(record.operations), stamp
            for name, state in states.items():
                shelf.accounts[name] = state, self._server.next_version()
            shelf.entries.update((entry.id, entry) for entry in entries)
            return True

        return await self._link.call(command, replicated=True)

    async def record(self, entries: Sequence[Entry]) -> None:
        await self._link.call(lambda shelf: shelf.entries.update((e.id, e) for e in entries))

    async def written(self, purchases: Mapping[str, float]) -> set[str]:
        return await self._link.call(lambda shelf: purchases.keys() & shelf.entries.keys())

    async def probe(self, *, thorough: bool) -> None:
        await self._link.call(lambda shelf: None)

    async def keep_alive(self, gateway: str, seconds: float) -> None:
        def command(shelf: Shelf) -> None:
            shelf.gateways[gateway] = self._server.now() + seconds

        await self._link.call(command)

    async def alive(self, gateways: Iterable[str]) -> dict[str, float]:
        wanted = set(gateways)
        return await self._link.call(
            lambda shelf: {name: shelf.gateways[name] for name in wanted & shelf.gateways.keys()}
        )

    async def forget_operations(self, most: int) -> None:
        def command(shelf: Shelf) -> None:
            for name, (state, _) in list(shelf.operations.items()):
                if decode_operations(state).ends <= self._server.now():
                    del shelf.operations[name]

        await self._link.call(command)

    async def due(self) -> list[str]:
        def command(shelf: Shelf) -> list[str]:
            leases = {
                name: decode_account(state).earliest_lease
                for name, (state, _) in shelf.accounts.items()
            }
            now = self._server.now()
            due = [(lease, name) for name, lease in leases.items() if lease and lease <= now]
            return [name for _, name in sorted(due)]

        return await self._link.call(command)


class SimLeases:
    """The Leases, by which the gateways elect a buyer."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server = link.server

    async def take(self, lease: Lease, seconds: float) -> Rival | None:
        def command(shelf: Shelf) -> Rival | None:
            now = self._server.now()
            holder, ends = shelf.leases.get(lease.name, ("", 0.0))
            if holder and holder != lease.holder and ends > now:
                shelf.waited.add(lease.name)
                return Rival(holder, ends - now)
            shelf.leases[lease.name] = lease.holder, now + seconds
            shelf.waited.discard(lease.name)
            return None

        return await self._link.call(command)

    async def renew(self, leases: Sequence[Lease], seconds: float) -> list[Lease]:
        def command(shelf: Shelf) -> list[Lease]:
            now, lost = self._server.now(), []
            for lease in leases:
                holder, ends = shelf.leases.get(lease.name, (lease.holder, 0.0))
                if holder != lease.holder and ends > now:
                    lost.append(lease)
                else:
                    shelf.leases[lease.name] = lease.holder, now + seconds
            return lost

        return await self._link.call(command)

    async def end(self, endings: Sequence[tuple[Lease, bytes]]) -> None:
        def command(shelf: Shelf) -> None:
            now = self._server.now()
            for lease, message in endings:
                holder, ends = shelf.leases.get(lease.name, ("", 0.0))
                if holder not in ("", lease.holder) and ends > now:
                    continue
                shelf.leases.pop(lease.name, None)
                event = LeaseEvent(lease, message)
                for queue, link in self._server.subscribers.items():
                    link.send(lambda queue=queue, event=event: queue.put_nowait(event))  # type: ignore[misc]

        await self._link.call(command)

    async def hand_over(self, lease: Lease, bought: Bought, *, asked: bool = False) -> bool:
        if not asked and not await self._link.call(lambda shelf: lease.name in shelf.waited):
            return False
        until = self._server.now() + 10.0
        left = {lease.holder: (bought, until)}
        await self._link.call(lambda shelf: shelf.left.update(left))
        return True

    async def handed_over(self, lease: Lease) -> Bought | None:
        def command(shelf: Shelf) -> Bought | None:
            bought, until = shelf.left.get(lease.holder, (None, 0.0))
            return bought if until > self._server.now() else None

        return await self._link.call(command)

    async def listen(self) -> AsyncGenerator[LeaseEvent | None, None]:
        queue: asyncio.Queue[LeaseEvent | None] = asyncio.Queue()

        def subscribe(shelf: Shelf) -> None:
            self._server.subscribers[queue] = self._link

        await self._link.call(subscribe)
        try:
            yield None
            while True:
                try:
                    async with asyncio.timeout(2.0):
                        yield await queue.get()
                except TimeoutError:
                    await self._link.call(lambda shelf: None)  # a sign of life
        finally:
            self._server.subscribers.pop(queue, None)

    async def close(self) -> None: ...


class SimSharedCache(AnswerCache):
    """A cache in memory, and behind it one that all gateways share. Failures count as misses."""

    NAME = "simulated"

    def __init__(self, memory: MemoryCache, link: Link) -> None:
        super().__init__()
        self._memory = memory
        self._link = link

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Bought | None:
        if (found := self._memory.find(key)) is not None:
            return found  # type: ignore[no-any-return]
        try:
            bought = await self._link.call(lambda shelf: shelf.answers.get(key))
        except StoreUnavailable:
            return None
        if bought is not None:
            await self._memory.set(key, bought, ttl=3600)
        return bought

    async def _set(self, key: str, value: Bought, ttl: float | None = None, **options: Any) -> bool:
        stored: bool = await self._memory.set(key, value, ttl=ttl)
        shared = {key: replace(value, about=None, tier="redis")}
        try:
            await self._link.call(lambda shelf: shelf.answers.update(shared))
        except StoreUnavailable:
            return stored
        return True


class SimDirectory:
    """The teams and keys, which do not change."""

    def __init__(self, teams: Sequence[Team], keys: Sequence[Key]) -> None:
        self._teams = list(teams)
        self._keys = list(keys)

    async def changes(self, since: int) -> DirectoryChanges:
        return DirectoryChanges(1, self._teams, self._keys, whole=True)


def account_of(shelf: Shelf, name: str) -> Account:
    """The account of this name in the store."""
    state, _ = shelf.accounts.get(name, (encode_account(EMPTY), 0))
    return decode_account(state)
