"""The SQLite store's clock never runs backwards, and the log reports one that is far ahead."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.stores.sqlite import SqliteStore
from gateway.stores.sqlite.clock import FAR_AHEAD_SECONDS, StoreClock
from tests.conformance.store import put, spent

START = 1_772_323_200.0
ROUNDING = 1e-5
"""Seconds: floats of this size are a quarter of a microsecond apart."""


YEAR_2100 = 4_102_444_800.0


@dataclass
class Clocks:
    wall: float = START
    tick: float = 1000.0

    def store_clock(self) -> StoreClock:
        return StoreClock(lambda: self.wall, lambda: self.tick)


moments = st.tuples(
    st.floats(-1e8, 1e8),  # a jump of the wall clock
    st.floats(0, 1e6) | st.just(0.0),  # seconds that pass
    st.just(float("-inf")) | st.floats(0, 2 * START),  # the store's mark
)


@given(st.lists(moments, max_size=50))
def test_it_never_runs_backwards_and_never_slower_than_time_passes(
    history: list[tuple[float, float, float]],
) -> None:
    clocks = Clocks()
    clock = clocks.store_clock()
    former = clock.read()
    assert former == START
    for jump, passed, mark in history:
        clocks.wall += jump + passed
        clocks.tick += passed
        now = clock.read(mark)
        assert now >= max(former, mark, clocks.wall)
        # It is no further ahead than these three make it.
        assert abs(now - max(former + passed, mark, clocks.wall)) <= ROUNDING
        former = now


def test_steps_too_small_to_add_up_one_by_one_still_count() -> None:
    clocks = Clocks(wall=START + 3600)
    clock = clocks.store_clock()
    clock.read()
    clocks.wall = START  # from now on only the monotonic clock moves it
    for _ in range(100_000):
        clocks.tick += 1e-8
        clock.read()
    assert clock.read() - (START + 3600) > 0.9e-3


async def test_it_goes_on_after_reopening_and_in_another_store(tmp_path: Path) -> None:
    def store(wall: float) -> SqliteStore:
        return SqliteStore(tmp_path / "gateway.db", wall=lambda: wall)

    async with store(START) as first, store(0.0) as other:
        decided = (await first.accounts.load(["a"])).now
        await put(first, "a", spent(1))
        assert decided <= (await other.accounts.load(["a"])).now < START + 60
    async with store(START - 86_400) as reopened:
        begun = (await reopened.accounts.load(["a"])).now
        await asyncio.sleep(0.02)
        now = (await reopened.accounts.load(["a"])).now
        assert decided <= begun < now < START + 60
        assert now - begun >= 0.015  # it does not stand still until the wall clock catches up


# -- a clock that is far ahead ------------------------------------------------------------------


def test_it_is_reported_once_each_time_that_it_is_found() -> None:
    clocks = Clocks()
    clock = clocks.store_clock()
    ahead = START + FAR_AHEAD_SECONDS + 60
    walls = (START, ahead, START, START + 3_600, ahead - 3_600, START)
    for clocks.wall, reports in zip(walls, (0, 0, 1, 0, 0, 1), strict=True):
        with capture_logs() as lines:
            clock.read()
            clock.read()
        assert [line["log_level"] for line in lines] == ["error"] * reports


async def test_the_remedy_in_the_log_resets_budgets(tmp_path: Path) -> None:
    path, clocks = tmp_path / "gateway.db", Clocks(wall=YEAR_2100)

    def store() -> SqliteStore:
        return SqliteStore(path, wall=lambda: clocks.wall, monotonic=lambda: clocks.tick)

    async with store() as before:
        await put(before, "a", spent(1))
    clocks.wall = START
    async with store() as behind:
        with capture_logs() as lines:
            await behind.accounts.load(["a"])
    (line,) = lines
    assert line["wall_clock"] == "2026-03-01T00:00:00+00:00"
    assert line["store_clock"].startswith("2100-01-01T00:00:00")
    _, statements, _ = line["remedy"].split('"')
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    async with store() as after:
        with capture_logs() as lines:
            loaded = await after.accounts.load(["a"])
        assert START <= loaded.now < START + 60
        assert loaded.accounts[0][1] == 0
        assert lines == []
