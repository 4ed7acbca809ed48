"""A memory cache over a restart: expiry by the wall clock, order, bounds, and log lines."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.cache.memory import ENTRY_BYTES, MemoryCache
from gateway.cache.snapshot import keep, put_back
from gateway.cache.snapshot_file import NAME
from gateway.config.settings import CacheSettings
from gateway.core.model import Bought
from tests.support.answers import answer, key

START = 1_800_000_000.0
OTHER = "it is of another kind, version or owner, or others may write to it"

Lines = list[MutableMapping[str, Any]]


class Run:
    """One run of a gateway: its cache, its settings, and two clocks without a common start."""

    def __init__(self, settings: CacheSettings, max_bytes: int = 2**20) -> None:
        self.settings = settings
        self.file = Path(settings.keep_path, NAME)
        self.wall = START
        self.cache = MemoryCache(max_bytes, 2**20, clock=lambda: self.wall % 1_000_003)

    async def buy(self, name: str) -> Bought:
        bought = answer(b"{}", at=self.wall)
        await self.cache.set(key(name), bought, ttl=100)
        return bought

    async def keep(self, **options: float) -> None:
        await keep(self.cache, self.settings, lambda: self.wall, **options)

    async def put_back(self, **options: float) -> None:
        await put_back(self.cache, self.settings, lambda: self.wall, **options)

    def has(self, names: str) -> list[bool]:
        return [self.cache.peek(key(name)) is not None for name in names]


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(keep_path=str(tmp_path / "cache"))


@pytest.fixture
async def bought(settings: CacheSettings) -> Bought:
    """An answer "a" that a former run bought and kept, with 100 seconds left."""
    run = Run(settings)
    bought = await run.buy("a")
    await run.keep()
    return bought


@pytest.fixture
def lines(bought: Bought) -> Iterator[Lines]:
    """The log lines after the former run."""
    with capture_logs() as lines:
        yield lines


@pytest.mark.parametrize(
    ("pause", "ttl_seconds", "left"),
    [
        pytest.param(60, 86_400, 40, id="the time between two runs counts"),
        pytest.param(-1_000, 86_400, 100, id="a clock that was set back prolongs no life"),
        pytest.param(0, 30, 30, id="a shorter ttl also holds for kept answers"),
    ],
)
async def test_answers_expire_by_the_wall_clock(
    settings: CacheSettings, bought: Bought, pause: float, ttl_seconds: float, left: float
) -> None:
    run = Run(replace(settings, ttl_seconds=ttl_seconds))
    run.wall += pause
    await run.put_back()
    run.wall += left - 1
    assert await run.cache.get(key("a")) == bought
    run.wall += 1
    assert run.has("a") == [False]


async def test_the_order_of_use_is_kept(settings: CacheSettings) -> None:
    first = Run(settings)
    for name in "abcdef":
        await first.buy(name)
    await first.cache.get(key("a"))
    await first.keep()
    second = Run(replace(settings, max_bytes=8), max_bytes=4 * (ENTRY_BYTES + 64 + 2))
    await second.put_back()
    assert second.has("aefdcb") == [True] * 4 + [False] * 2
    await second.buy("new")
    assert second.has("aefd") == [True] * 3 + [False]


@pytest.mark.parametrize("option", [{"enabled": False}, {"keep_path": ""}])
async def test_without_a_path_or_a_cache_nothing_is_written(
    settings: CacheSettings, option: dict[str, Any]
) -> None:
    run = Run(replace(settings, **option))
    await run.buy("a")
    await run.keep()
    await run.put_back()
    assert not Path(settings.keep_path).exists()  # noqa: ASYNC240 - nothing else runs


async def test_writing_and_reading_are_logged(settings: CacheSettings, lines: Lines) -> None:
    run = Run(settings)
    await run.put_back()
    await run.keep()
    run.file.unlink()
    await Run(settings).put_back()
    names = ("event", "answers", "left_out")
    assert [{name: line[name] for name in names if name in line} for line in lines] == [
        {"event": "cache snapshot read", "answers": 1},
        {"event": "cache snapshot written", "answers": 1, "left_out": 0},
        {"event": "cache snapshot read", "answers": 0},
    ]


async def test_an_unusable_file_is_logged(settings: CacheSettings, lines: Lines) -> None:
    run = Run(settings)
    run.file.write_bytes(run.file.read_bytes()[:-1])
    await run.put_back()
    run.file.write_bytes(b"something else")
    await run.put_back()
    elsewhere = Run(replace(settings, keep_path=str(run.file / "cache")))
    await elsewhere.put_back()
    await elsewhere.keep()
    part, back, skipped, _, failed = lines
    assert (part["event"], part["damaged"]) == ("cache snapshot read in part", 1)
    assert (back["event"], back["answers"]) == ("cache snapshot read", 0)
    assert (skipped["event"], skipped["cause"]) == ("cache snapshot skipped", OTHER)
    assert skipped["log_level"] == "warning"
    assert (failed["event"], failed["cause"]) == ("cache snapshot not written", "Not a directory")


@pytest.mark.parametrize("mode", [0o620, 0o602])
async def test_a_file_that_others_may_write_is_not_put_back(
    settings: CacheSettings, lines: Lines, mode: int
) -> None:
    run = Run(settings)
    run.file.chmod(mode)
    await run.put_back()
    assert len(run.cache) == 0
    assert lines[-1]["cause"] == OTHER
