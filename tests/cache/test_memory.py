"""The memory cache against aiocache's own backend, and against a naive model of what it keeps."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

import pytest
from aiocache import SimpleMemoryCache
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cache.memory import ENTRY_BYTES, Asked, MemoryCache

ROOM = 4 * (ENTRY_BYTES + 1 + 100)
"""Room for four entries of 100 bytes whose keys have one character."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A small cache of byte strings, its clock, and what it evicted."""

    def __init__(self, max_bytes: int = ROOM, max_entry_bytes: int = 1_000) -> None:
        self.clock = Clock()
        self.evicted: list[str] = []
        self.cache = MemoryCache(
            max_bytes, max_entry_bytes, len, self.clock, on_evict=self.evicted.append
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The coroutine's result; fails where it waits for anything."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


# -- how often entries are found ----------------------------------------------------------------


async def test_entries_tell_how_often_they_were_found(bench: Bench) -> None:
    cache = bench.cache
    for key, ttl in (("a", 20), ("b", None), ("c", 5), ("d", None)):
        await cache.set(key, b"x" * 10, ttl=ttl)
    for key in "aabbbcx":
        await cache.get(key)
    await cache.exists("d")  # asking whether it is there is no use
    bench.clock.now += 5
    total = ENTRY_BYTES + 1 + 10
    assert list(cache.asked_for()) == [
        Asked("b", b"x" * 10, 3, total, None),
        Asked("a", b"x" * 10, 2, total, 15.0),
    ]
    await cache.set("a", b"y")
    assert [asked.key for asked in cache.asked_for()] == ["b"]


async def test_what_is_amended_keeps_its_place_and_its_life(bench: Bench) -> None:
    cache = bench.cache
    for key in "abcd":
        await cache.set(key, b"x" * 90, ttl=20)
    await cache.get("a")
    cache.amend("a", b"y" * 100)
    cache.amend("x", b"y")
    assert cache.bytes == 4 * (ENTRY_BYTES + 1 + 90) + 10
    (asked,) = cache.asked_for()
    assert (asked.value, asked.hits, asked.left) == (b"y" * 100, 1, 20.0)
    bench.clock.now += 20
    cache.amend("a", b"z")
    assert await cache.get("a") is None


async def test_what_is_amended_has_to_find_room(bench: Bench) -> None:
    cache = bench.cache
    for key in "abcd":
        await cache.set(key, b"x" * 100)
    cache.amend("d", b"y" * 150)
    assert [await cache.exists(key) for key in "abcd"] == [False, True, True, True]
    assert cache.bytes <= ROOM


# -- bytes --------------------------------------------------------------------------------------


async def test_bytes_and_entries_are_counted(bench: Bench) -> None:
    cache = bench.cache
    assert (len(cache), cache.bytes) == (0, 0)
    await cache.set("kä", b"x" * 10)
    assert (len(cache), cache.bytes) == (1, ENTRY_BYTES + 3 + 10)
    await cache.set("kä", b"x" * 20)
    assert (len(cache), cache.bytes) == (1, ENTRY_BYTES + 3 + 20)
    await cache.delete("kä")
    assert (len(cache), cache.bytes) == (0, 0)
    assert bench.evicted == ["replaced"]


async def test_the_longest_unused_goes_first(bench: Bench) -> None:
    cache = bench.cache
    for key in "abcd":
        await cache.set(key, b"x" * 100)
    assert await cache.get("a") == b"x" * 100
    await cache.exists("b")  # asking whether it is there is no use
    await cache.set("e", b"x" * 100)
    assert [await cache.exists(key) for key in "abcde"] == [True, False, True, True, True]
    assert bench.evicted == ["size"]
    assert cache.bytes == ROOM


async def test_a_large_entry_takes_the_room_of_several(bench: Bench) -> None:
    for key in "abcd":
        await bench.cache.set(key, b"x" * 100)
    await bench.cache.set("e", b"x" * 800)
    assert [await bench.cache.exists(key) for key in "abcde"] == [False, False, False, True, True]


async def test_the_expired_go_before_the_living(bench: Bench) -> None:
    cache = bench.cache
    await cache.set("a", b"x" * 100)
    await cache.set("b", b"x" * 100, ttl=60)
    await cache.set("c", b"x" * 100, ttl=600)
    await cache.set("d", b"x" * 100, ttl=60)
    bench.clock.now += 60
    assert len(cache) == 4
    await cache.set("e", b"x" * 100)
    assert bench.evicted == ["expired", "expired"]
    assert [await cache.exists(key) for key in "abcde"] == [True, False, True, False, True]


async def test_what_is_too_large_is_not_kept(bench: Bench) -> None:
    assert await bench.cache.set("a", b"x" * 1_000) is True
    assert await bench.cache.set("a", b"x" * 1_001) is False
    assert await bench.cache.get("a") is None
    assert bench.evicted == ["replaced"]
    assert bench.cache.bytes == 0


async def test_what_is_larger_than_everything_evicts_nothing() -> None:
    bench = Bench(max_bytes=ENTRY_BYTES + 100, max_entry_bytes=1_000)
    assert await bench.cache.set("a", b"x" * 99) is True
    assert await bench.cache.set("b", b"x" * 100) is False
    assert await bench.cache.get("a") == b"x" * 99
    assert bench.evicted == []


async def test_changed_times_do_not_pile_up(bench: Bench) -> None:
    for second in range(10_000):
        await bench.cache.set("a", b"x", ttl=1_000 + second)
    assert len(bench.cache._due) < 100


# -- time ---------------------------------------------------------------------------------------


async def test_an_entry_expires(bench: Bench) -> None:
    await bench.cache.set("a", b"x", ttl=60)
    bench.clock.now += 59.9
    assert await bench.cache.get("a") == b"x"
    bench.clock.now += 0.1
    assert await bench.cache.get("a") is None
    assert bench.evicted == ["expired"]
    assert bench.cache.bytes == 0


@pytest.mark.parametrize("ttl", [0, None])
async def test_no_time_is_for_ever(bench: Bench, ttl: int | None) -> None:
    await bench.cache.set("a", b"x", ttl=ttl)
    await bench.cache.set("b", b"x", ttl=60)
    await bench.cache.expire("b", ttl)
    bench.clock.now += 1e9
    assert await bench.cache.multi_get(["a", "b"]) == [b"x", b"x"]


async def test_the_caches_own_time_is_the_default() -> None:
    clock = Clock()
    cache = MemoryCache(ROOM, ROOM, len, clock, ttl=60)
    await cache.set("a", b"x")
    await cache.set("b", b"x", ttl=600)
    clock.now += 60
    assert await cache.multi_get(["a", "b"]) == [None, b"x"]


async def test_a_new_value_has_a_new_time(bench: Bench) -> None:
    await bench.cache.set("a", b"x", ttl=60)
    await bench.cache.set("a", b"y")
    bench.clock.now += 61
    for key in "bcd":
        await bench.cache.set(key, b"x" * 100)
    assert await bench.cache.get("a") == b"y"
    await bench.cache.set("e", b"x" * 100)
    assert [await bench.cache.exists(key) for key in "abcde"] == [True, False, True, True, True]


# -- as aiocache's own backend ------------------------------------------------------------------


@pytest.fixture(params=["ours", "aiocache"])
def either(request: pytest.FixtureRequest) -> Any:
    if request.param == "ours":
        return MemoryCache(10_000, 10_000, len, namespace="n:")
    return SimpleMemoryCache(namespace="n:", timeout=0)


async def test_the_interface(either: Any) -> None:
    assert await either.get("a") is None
    assert await either.get("a", default=b"none") == b"none"
    assert await either.set("a", b"1") is True
    assert await either.add("b", b"2") is True
    with pytest.raises(ValueError, match="exists"):
        await either.add("b", b"3")
    assert await either.multi_get(["a", "b", "c"]) == [b"1", b"2", None]
    assert await either.multi_set([("c", b"3"), ("d", b"4")]) is True
    assert await either.exists("c") is True
    assert await either.delete("c") == 1
    assert await either.delete("c") == 0
    assert await either.exists("c") is False
    assert await either.expire("c", 5) is False
    assert await either.expire("d", 5) is True
    assert await either.set("d", b"5", _cas_token=b"4") is True
    assert not await either.set("d", b"6", _cas_token=b"4")
    assert not await either.set("e", b"6", _cas_token=b"4")
    assert await either.get("d") == b"5"


async def test_objects_come_out_as_they_went_in(either: Any) -> None:
    value = (b"x", 1)
    await either.set("a", value)
    assert await either.get("a") is value


async def test_namespaces(either: Any) -> None:
    await either.set("a", b"1")
    await either.set("a", b"2", namespace="m:")
    await either.set("b", b"2", namespace="m:")
    assert await either.get("a") == b"1"
    assert await either.get("a", namespace="m:") == b"2"
    assert await either.clear(namespace="m:") is True
    assert await either.multi_get(["a", "b"], namespace="m:") == [None, None]
    assert await either.get("a") == b"1"
    assert await either.clear() is True
    assert await either.exists("a") is False


@pytest.mark.parametrize("ttl", [0.03, -1])
async def test_times_by_the_real_clock(either: Any, ttl: float) -> None:
    await either.set("a", b"1", ttl=ttl)
    await either.set("b", b"1")
    await either.expire("b", ttl)
    await asyncio.sleep(0.06)
    assert await either.multi_get(["a", "b"]) == [None, None]


def test_nothing_waits(bench: Bench) -> None:
    assert at_once(bench.cache.set("a", b"x")) is True
    assert at_once(bench.cache.get("a")) == b"x"


# -- over a restart -----------------------------------------------------------------------------


async def test_the_living_come_with_what_is_left_of_them_the_latest_used_first(
    bench: Bench,
) -> None:
    cache = bench.cache
    await cache.set("short", b"s", ttl=5)
    await cache.set("endless", b"e")
    await cache.set("long", b"l", ttl=50)
    await cache.get("endless")
    bench.clock.now += 5
    assert list(cache.living()) == [("endless", b"e", math.inf), ("long", b"l", 45)]


async def test_what_is_put_back_comes_after_all_others_and_drives_nothing_out(
    bench: Bench,
) -> None:
    cache = bench.cache
    await cache.set("a", b"new")
    assert not cache.put_back("a", b"old", 10)
    assert not cache.put_back("b", b"expired", 0)
    assert not cache.put_back("c", b"x" * 1_001, 10)
    assert [cache.put_back(key, b"x" * 100, ttl) for key, ttl in (("d", 10), ("e", math.inf))] == [
        True,
        True,
    ]
    assert cache.put_back("f", b"x" * 100, 10)
    assert not cache.put_back("g", b"x" * 100, 10)
    assert [key for key, _, _ in cache.living()] == ["a", "d", "e", "f"]
    assert bench.evicted == []
    bench.clock.now += 10
    assert [key for key, _, _ in cache.living()] == ["a", "e"]


# -- against a model ----------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """What ought to be there: a list of (key, value, expires), the longest unused first."""

    keys = st.sampled_from("abcdefg")
    ttls = st.sampled_from([None, 0, 1, 5, 20])

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(max_entry_bytes=700)
        self.there: list[tuple[str, bytes, float | None]] = []

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return at_once(coroutine)

    def forget(self, key: str) -> None:
        self.there = [entry for entry in self.there if entry[0] != key]

    def expiry(self, ttl: int | None) -> float | None:
        return self.bench.clock.now + ttl if ttl else None

    @rule(key=keys, size=st.integers(0, 750), ttl=ttls)
    def set(self, key: str, size: int, ttl: int | None) -> None:
        kept = self.call(self.bench.cache.set(key, bytes(size), ttl=ttl))
        self.forget(key)
        assert kept is (size <= 700)
        if kept:
            self.there.append((key, bytes(size), self.expiry(ttl)))
        while sum(ENTRY_BYTES + 1 + len(value) for _, value, _ in self.there) > ROOM:
            self.there.pop(0)

    @rule(key=keys)
    def get(self, key: str) -> None:
        found = [entry for entry in self.there if entry[0] == key]
        assert self.call(self.bench.cache.get(key)) == (found[0][1] if found else None)
        self.forget(key)
        self.there += found

    @rule(key=keys, ttl=ttls)
    def expire(self, key: str, ttl: int | None) -> None:
        found = any(entry[0] == key for entry in self.there)
        assert self.call(self.bench.cache.expire(key, ttl)) is found
        expires = self.expiry(ttl)
        self.there = [(k, v, expires if k == key else old) for k, v, old in self.there]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        found = any(entry[0] == key for entry in self.there)
        assert self.call(self.bench.cache.delete(key)) == found
        self.forget(key)

    @rule(seconds=st.integers(1, 8))
    def wait(self, seconds: int) -> None:
        self.bench.clock.now += seconds
        now = self.bench.clock.now
        self.there = [entry for entry in self.there if entry[2] is None or now < entry[2]]

    @rule()
    def clear(self) -> None:
        self.call(self.bench.cache.clear())
        self.there = []

    @invariant()
    def never_above_its_bytes(self) -> None:
        cache = self.bench.cache
        assert 0 <= cache.bytes <= ROOM
        assert len(cache) >= len(self.there)
        assert cache.bytes >= sum(ENTRY_BYTES + 1 + len(value) for _, value, _ in self.there)

    def teardown(self) -> None:
        for key in "abcdefg":
            assert self.call(self.bench.cache.exists(key)) is any(k == key for k, *_ in self.there)
        assert len(self.bench.cache) == len(self.there)


Model.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestModel = Model.TestCase
