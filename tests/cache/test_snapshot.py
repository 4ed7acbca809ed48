"""A memory cache over a restart: lives by the wall clock, order, bounds, and what the log says."""

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec.structs import replace

from gateway.cache.memory import ENTRY_BYTES, MemoryCache
from gateway.cache.snapshot import keep, put_back
from gateway.cache.snapshot_file import NAME
from gateway.config.settings import CacheSettings
from gateway.core.model import Bought
from gateway.telemetry.logging import configure_logs

START = 1_800_000_000.0
OTHER = "it is of another kind, version or owner, or others may write to it"


class Run:
    """One run of a gateway: its cache, and two clocks that have nothing in common."""

    def __init__(self, max_bytes: int = 2**20) -> None:
        self.wall = START
        self.cache = MemoryCache(max_bytes, 2**20, clock=lambda: self.wall % 1_000_003)

    def now(self) -> float:
        return self.wall

    async def buy(self, name: str, ttl: float, body: bytes = b"{}") -> Bought:
        bought = Bought(body=body, images=1, cost=5, at=self.wall, kept=True)
        await self.cache.set(key(name), bought, ttl=ttl)
        return bought

    async def has(self, name: str) -> bool:
        return await self.cache.get(key(name)) is not None


def key(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(keep_path=str(tmp_path / "cache"))


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs("info", "json", stream)
    structlog.configure(cache_logger_on_first_use=False)  # the next test has another stream
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(logged: io.StringIO) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in logged.getvalue().splitlines()]
    logged.seek(0)
    logged.truncate()
    return found


async def test_answers_expire_by_the_wall_clock(settings: CacheSettings) -> None:
    first, second = Run(), Run()
    bought = await first.buy("a", 100)
    await first.buy("b", 50)
    await first.buy("c", 10)
    first.wall += 20
    await keep(first.cache, settings, first.now)
    second.wall = first.wall + 40  # the time between the two counts
    await put_back(second.cache, settings, second.now)
    assert await second.cache.get(key("a")) == bought
    assert [await second.has(name) for name in "abc"] == [True, False, False]
    second.wall = START + 99
    assert await second.has("a")
    second.wall = START + 100
    assert not await second.has("a")


async def test_a_clock_that_was_set_back_prolongs_no_life(settings: CacheSettings) -> None:
    first, second = Run(), Run()
    await first.buy("a", 100)
    await keep(first.cache, settings, first.now)
    second.wall = START - 1_000
    await put_back(second.cache, settings, second.now)
    second.wall += 99
    assert await second.has("a")
    second.wall += 1
    assert not await second.has("a")


async def test_a_shorter_ttl_holds_for_what_was_kept(settings: CacheSettings) -> None:
    first, second = Run(), Run()
    await first.buy("a", 100)
    await keep(first.cache, settings, first.now)
    await put_back(second.cache, replace(settings, ttl_seconds=30), second.now)
    second.wall += 29
    assert await second.has("a")
    second.wall += 1
    assert not await second.has("a")


async def test_the_order_of_use_goes_on(settings: CacheSettings) -> None:
    first, second = Run(), Run(4 * (ENTRY_BYTES + 64 + 2))
    for name in "abcdef":
        await first.buy(name, 100)
    await first.has("a")
    await keep(first.cache, settings, first.now)
    await put_back(second.cache, replace(settings, max_bytes=8), second.now)
    assert [second.cache.peek(key(name)) is not None for name in "aefdcb"] == [True] * 4 + [
        False
    ] * 2
    await second.buy("new", 100)
    assert [second.cache.peek(key(name)) is not None for name in "aefd"] == [True] * 3 + [False]


async def test_without_a_path_nothing_is_written(settings: CacheSettings) -> None:
    run = Run()
    await run.buy("a", 100)
    for off in (replace(settings, enabled=False), replace(settings, keep_path="")):
        await keep(run.cache, off, run.now)
        await put_back(run.cache, off, run.now)
    assert not os.path.exists(settings.keep_path)  # noqa: ASYNC240 - nothing else runs


async def test_writing_and_reading_are_logged(settings: CacheSettings, logged: io.StringIO) -> None:
    run = Run()
    await put_back(run.cache, settings, run.now)
    await run.buy("a", 100)
    await keep(run.cache, settings, run.now)
    await put_back(Run().cache, settings, run.now)
    events = [
        {name: line[name] for name in line.keys() & {"event", "answers", "left_out"}}
        for line in lines(logged)
    ]
    assert events == [
        {"event": "cache put back", "answers": 0},
        {"event": "cache kept", "answers": 1, "left_out": 0},
        {"event": "cache put back", "answers": 1},
    ]


async def test_a_time_limit_is_no_failure(settings: CacheSettings, logged: io.StringIO) -> None:
    run = Run()
    await run.buy("a", 100)
    await keep(run.cache, settings, run.now, seconds=0)
    (line,) = lines(logged)
    assert (line["answers"], line["left_out"]) == (0, 1)
    await keep(run.cache, settings, run.now)
    await put_back(Run().cache, settings, run.now, seconds=0)
    assert lines(logged)[1]["event"] == "kept cache read in part"


async def test_an_unusable_file_is_logged(settings: CacheSettings, logged: io.StringIO) -> None:
    run, folder = Run(), Path(settings.keep_path)
    elsewhere = replace(settings, keep_path=str(folder / NAME / "cache"))
    await run.buy("a", 100)
    await keep(run.cache, settings, run.now)
    content = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(content[:-1])
    await put_back(Run().cache, settings, run.now)
    (folder / NAME).write_bytes(b"something else")
    await put_back(Run().cache, settings, run.now)
    await keep(run.cache, elsewhere, run.now)
    _, part, back, skipped, failed = lines(logged)
    assert (part["event"], part["damaged"]) == ("kept cache read in part", 1)
    assert (back["event"], back["answers"]) == ("cache put back", 0)
    assert (skipped["event"], skipped["level"]) == ("kept cache skipped", "warning")
    assert skipped["cause"] == OTHER
    assert (failed["event"], failed["cause"]) == ("cache not kept", "Not a directory")


@pytest.mark.parametrize("mode", [0o620, 0o602])
async def test_a_file_that_others_may_write_is_not_put_back(
    settings: CacheSettings, logged: io.StringIO, mode: int
) -> None:
    run = Run()
    await run.buy("a", 100)
    await keep(run.cache, settings, run.now)
    (Path(settings.keep_path) / NAME).chmod(mode)
    fresh = Run()
    await put_back(fresh.cache, settings, run.now)
    assert len(fresh.cache) == 0
    assert lines(logged)[-1]["cause"] == OTHER
