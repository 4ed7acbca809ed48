"""Answers purged on another replica are removed; answers bought since then stay."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.cache.disk import DiskCache
from gateway.cache.invalidation import Invalidation
from gateway.cache.memory import MemoryCache
from gateway.config.settings import Settings
from gateway.stores.sqlite.store import SqliteStore
from gateway.tenants.changes import Actor
from gateway.tenants.operations import note_purge, purge_teams
from tests.support.answers import answer

NOW = 1_800_000_000.0
DAY = 86_400.0


class Bench:
    """A gateway's memory, and the store through which replicas purge. `now` is their clock."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = NOW
        self.generation = 0
        self.memory = MemoryCache(2**20, 2**20)
        self.disk: DiskCache | None = None
        self.invalidation = self.follow()

    def follow(self) -> Invalidation:
        return Invalidation(
            self.store.audit,
            self.memory,
            self.disk,
            Settings,
            lambda: self.generation,
            lambda: self.now,
        )

    async def check(self, times: int = 1) -> None:
        for _ in range(times):
            await self.invalidation.check()

    async def buy(self, *names: str, age: float = 0.0) -> None:
        for name in names:
            await self.memory.set(name, answer(at=self.now - age))

    async def purge(self, name: str | None) -> None:
        """Purge on another replica; this one's directory follows."""
        by = Actor("somebody", self.now)
        if name is None:
            await purge_teams(self.store.directory, None, by)
        else:
            await note_purge(self.store.directory, name, by)
        self.generation = (await self.store.directory.changes(0)).generation

    @property
    def kept(self) -> set[str]:
        return {entry.key for entry in self.memory.living()}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with SqliteStore(tmp_path / "gateway.db") as store:
        yield Bench(store)


async def test_a_purged_answer_is_removed(bench: Bench) -> None:
    await bench.buy("a", "b")
    bench.now += 1
    await bench.purge("a")
    await bench.check()
    assert bench.kept == {"b"}


async def test_an_answer_bought_after_the_purge_stays(bench: Bench) -> None:
    await bench.buy("a", "b")
    bench.now += 1
    await bench.purge(None)
    bench.now += 1
    await bench.buy("a")
    await bench.check(3)
    assert bench.kept == {"a"}


async def test_an_answer_read_from_redis_meanwhile_is_removed_at_the_second_check(
    bench: Bench,
) -> None:
    bench.now += 1
    await bench.purge("a")
    await bench.check()
    await bench.buy("a", age=1)
    await bench.check()
    assert bench.kept == set()


async def test_an_answer_kept_over_a_restart_is_removed_if_purged_meanwhile(bench: Bench) -> None:
    await bench.buy("a", "b")
    await bench.purge("a")
    bench.now += DAY
    await bench.follow().check()
    assert bench.kept == {"b"}


async def test_old_purges_are_not_read_again(bench: Bench) -> None:
    await bench.buy("a")
    await bench.purge("a")
    await bench.check(2)
    bench.now += DAY
    await bench.purge("b")
    await bench.check(2)
    await bench.buy("a", age=2 * DAY)  # never happens, but it shows how far back the log is read
    bench.now += DAY
    await bench.purge("c")
    await bench.check()
    assert bench.kept == {"a"}


async def test_the_purge_of_a_team_removes_nothing(bench: Bench) -> None:
    await bench.buy("a")
    await purge_teams(bench.store.directory, [], Actor("somebody", bench.now))
    bench.generation = 99
    await bench.check()
    assert bench.kept == {"a"}
