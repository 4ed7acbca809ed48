"""The memory cache against aiocache's own backend, and against a naive model of its content."""

import math
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from aiocache import SimpleMemoryCache
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cache.memory import (
    COMPARED,
    ENTRY_BYTES,
    EXPIRED_AT_ONCE,
    LivingEntry,
    MemoryCache,
)
from gateway.telemetry.observer import Observer
from tests.conformance.store import Wall

ROOM = 4 * (ENTRY_BYTES + 1 + 100)
"""Room for four entries of 100 bytes whose keys have one character."""


class Bench(Observer):
    """A small cache of byte strings, its clock, and the reasons of its evictions."""

    def __init__(self, max_bytes: int = ROOM, max_entry_bytes: int = 1_000) -> None:
        self.clock = Wall(1_000.0)
        self.evicted: list[str] = []
        self.cache = MemoryCache(
            max_bytes, max_entry_bytes, size=len, clock=self.clock, observer=self
        )

    def cache_eviction(self, tier: str, reason: str) -> None:
        assert tier == "memory"
        self.evicted.append(reason)

    async def fill(self, keys: str, size: int = 100, ttl: float | None = None) -> None:
        for key in keys:
            await self.cache.set(key, b"x" * size, ttl=ttl)

    @property
    def keys(self) -> str:
        """The keys of all entries that have not expired, in order."""
        return "".join(sorted(entry.key for entry in self.cache.living()))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result; fails if it waits for anything."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


# -- hits ---------------------------------------------------------------------------------------


async def test_entries_count_their_hits(bench: Bench) -> None:
    cache = bench.cache
    for key, ttl in (("a", 20), ("b", None), ("c", 5), ("d", None)):
        await bench.fill(key, 10, ttl)
    for key in "aabbbcx":
        await cache.get(key)
    assert cache.peek("d") == b"x" * 10  # no hit
    bench.clock.now += 5
    total = ENTRY_BYTES + 1 + 10
    assert await cache.most_hits(10) == [
        LivingEntry("b", b"x" * 10, 3, total, math.inf),
        LivingEntry("a", b"x" * 10, 2, total, 15.0),
    ]
    await cache.set("a", b"y")
    assert [entry.key for entry in await cache.most_hits(1)] == ["b"]


async def test_an_amended_entry_keeps_its_place_and_its_expiry(bench: Bench) -> None:
    cache = bench.cache
    await bench.fill("abcd", 90, ttl=20)
    await cache.get("a")
    cache.amend("a", b"y" * 100)
    cache.amend("x", b"y")
    assert cache.bytes == 4 * (ENTRY_BYTES + 1 + 90) + 10
    (entry,) = await cache.most_hits(10)
    assert (entry.value, entry.hits, entry.left) == (b"y" * 100, 1, 20.0)
    cache.amend("a", b"y" * 150)
    assert (bench.keys, bench.evicted) == ("acd", ["size"])  # it grew, so another one had to go
    bench.clock.now += 20
    cache.amend("a", b"z")
    assert await cache.get("a") is None


# -- bytes --------------------------------------------------------------------------------------


async def test_bytes_are_counted(bench: Bench) -> None:
    for size in (10, 20):
        await bench.cache.set("kä", b"x" * size)
        assert (len(bench.cache), bench.cache.bytes) == (1, ENTRY_BYTES + 3 + size)
    await bench.cache.delete("kä")
    assert (len(bench.cache), bench.cache.bytes) == (0, 0)


async def test_evictions_are_reported_with_their_reason(bench: Bench) -> None:
    for key, ttl in (("a", None), ("b", 60), ("c", 600), ("d", 60)):
        await bench.fill(key, ttl=ttl)
    bench.clock.now += 60
    assert len(bench.cache) == 4
    await bench.fill("e")
    assert (bench.keys, bench.evicted) == ("ace", ["expired", "expired"])
    await bench.cache.get("a")
    bench.cache.peek("c")  # no use
    await bench.fill("fg")
    assert (bench.keys, bench.evicted[2:]) == ("aefg", ["size"])
    await bench.fill("e", 1_001)  # too large, but the former value is outdated
    await bench.fill("e", ttl=60)
    bench.clock.now += 60
    await bench.cache.get("e")
    await bench.cache.delete("f")
    assert (bench.keys, bench.evicted[3:]) == ("ag", ["replaced", "expired"])


async def test_one_entry_does_not_pay_for_all_that_have_expired() -> None:
    count = EXPIRED_AT_ONCE + 50
    room = (ENTRY_BYTES + 1_000 + 3) * count
    bench = Bench(max_bytes=room)
    for number in range(count):
        await bench.cache.set(f"{number:03}", b"x" * 1_000, ttl=60)
    bench.clock.now += 60
    await bench.fill("a")
    assert bench.evicted == ["expired"] * EXPIRED_AT_ONCE
    assert len(bench.cache) == 51
    bench.cache.max_bytes = bench.cache.bytes  # a small one more needs all of the others' space
    await bench.fill("b")
    assert bench.evicted == ["expired"] * count
    assert bench.keys == "ab"


async def test_the_most_repeated_entries_are_found_in_a_large_cache() -> None:
    bench = Bench(max_bytes=10**9)
    for number in range(2 * COMPARED + 100):
        key = f"{number:05}"
        await bench.cache.set(key, b"x")
        for _ in range(number % 7):
            bench.cache.find(key)
    last = (2 * COMPARED + 93) // 7 * 7 + 6  # the latest of those with six hits
    found = await bench.cache.most_hits(2)
    assert [entry.key for entry in found] == [f"{last:05}", f"{last - 7:05}"]
    assert await bench.cache.most_hits(1, lambda value: value == b"none") == []


async def test_a_look_is_no_use(bench: Bench) -> None:
    await bench.fill("abcd")
    assert await bench.cache.look("a") == b"x" * 100
    assert await bench.cache.look("x") is None
    assert await bench.cache.most_hits(10) == []
    await bench.fill("e")
    assert bench.keys == "bcde"


async def test_a_value_larger_than_the_cache_evicts_nothing() -> None:
    bench = Bench(max_bytes=ENTRY_BYTES + 100, max_entry_bytes=1_000)
    assert await bench.cache.set("a", b"x" * 99) is True
    assert await bench.cache.set("b", b"x" * 100) is False
    assert await bench.cache.get("a") == b"x" * 99
    assert bench.evicted == []


async def test_outdated_expiry_times_do_not_pile_up(bench: Bench) -> None:
    for second in range(10_000):
        await bench.cache.set("a", b"x", ttl=1_000 + second)
    assert len(bench.cache._due) < 100


# -- the interface ------------------------------------------------------------------------------


@pytest.fixture(params=["ours", "aiocache"])
def either(request: pytest.FixtureRequest) -> Any:
    if request.param == "ours":
        return MemoryCache(10_000, 10_000, size=len)
    return SimpleMemoryCache(timeout=0)


async def test_it_behaves_like_the_memory_backend_of_aiocache(either: Any) -> None:
    value = (b"x", 1)
    assert await either.get("a") is None
    assert await either.get("a", default=b"none") == b"none"
    assert await either.set("a", value) is True
    assert await either.get("a") is value  # stored as it is
    assert await either.set("a", b"2", ttl=60) is True
    assert await either.get("a") == b"2"
    assert await either.delete("a") == 1
    assert await either.delete("a") == 0
    await either.set("a", b"1")
    assert await either.clear() is True
    assert await either.get("a") is None
    await either.close()


# -- lists --------------------------------------------------------------------------------------


async def test_living_entries_are_listed_with_their_remaining_life(bench: Bench) -> None:
    cache = bench.cache
    await cache.set("short", b"s", ttl=5)
    await cache.set("endless", b"e")
    await cache.set("long", b"l", ttl=50)
    await cache.get("endless")
    bench.clock.now += 5
    living = [(entry.key, entry.value, entry.left) for entry in cache.living()]
    assert living == [("endless", b"e", math.inf), ("long", b"l", 45)]


# -- against a model ----------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """The expected content: a list of (key, value, expires), the least recently used first.

    No method of the cache may wait: see `at_once`. Only `clear` lets other tasks run, now and then.
    """

    keys = st.sampled_from("abcdefg")
    ttls = st.sampled_from([None, 0, 1, 5, 20])

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(max_entry_bytes=700)
        self.expected: list[tuple[str, bytes, float | None]] = []

    def forget(self, key: str) -> None:
        self.expected = [entry for entry in self.expected if entry[0] != key]

    def expiry(self, ttl: int | None) -> float | None:
        return self.bench.clock.now + ttl if ttl else None

    @rule(key=keys, size=st.integers(0, 750), ttl=ttls)
    def set(self, key: str, size: int, ttl: int | None) -> None:
        kept = at_once(self.bench.cache.set(key, bytes(size), ttl=ttl))
        self.forget(key)
        assert kept is (size <= 700)
        if kept:
            self.expected.append((key, bytes(size), self.expiry(ttl)))
        while sum(ENTRY_BYTES + 1 + len(value) for _, value, _ in self.expected) > ROOM:
            self.expected.pop(0)

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = [entry for entry in self.expected if entry[0] == key]
        assert at_once(self.bench.cache.get(key)) == (found[0][1] if found else None)
        self.forget(key)
        self.expected += found

    @rule(key=keys)
    def delete(self, key: str) -> None:
        found = any(entry[0] == key for entry in self.expected)
        assert at_once(self.bench.cache.delete(key)) == found
        self.forget(key)

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.bench.clock.now += seconds
        now = self.bench.clock.now
        self.expected = [entry for entry in self.expected if entry[2] is None or now < entry[2]]

    @rule()
    def clear(self) -> None:
        clearing = self.bench.cache.clear()
        with suppress(StopIteration):
            while True:
                clearing.send(None)
        self.expected = []

    @invariant()
    def never_above_its_bytes(self) -> None:
        cache = self.bench.cache
        assert 0 <= cache.bytes <= ROOM
        assert len(cache) >= len(self.expected)
        assert cache.bytes >= sum(ENTRY_BYTES + 1 + len(value) for _, value, _ in self.expected)

    def teardown(self) -> None:
        for key in "abcdefg":
            found = self.bench.cache.peek(key) is not None
            assert found is any(k == key for k, *_ in self.expected)
        assert len(self.bench.cache) == len(self.expected)


Model.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=60)
TestModel = Model.TestCase
