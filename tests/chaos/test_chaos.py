"""Real processes that are killed, stopped and cut off under load keep the promises about money.

`CHAOS_SEED=123 pytest tests/chaos` repeats the troubles of a run.
"""

import os
import secrets
from pathlib import Path

import pytest

from tests.chaos.processes import LIBRARIES
from tests.chaos.run import chaos
from tests.support.replicas import StoreKind

exhaustive, soak = pytest.mark.exhaustive, pytest.mark.soak


async def run_chaos(folder: Path, store: StoreKind, seconds: float, *, jumps: bool = False) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    async with chaos(seed, folder, store, seconds, jumps=jumps) as run:
        found = await run.run()
    if found:
        pytest.fail(f"{run.report(found)}\nRepeat it with CHAOS_SEED={seed}")


@pytest.mark.parametrize(
    "seconds",
    [15.0, pytest.param(120.0, marks=exhaustive), pytest.param(600.0, marks=soak)],
)
async def test_over_one_redis(tmp_path: Path, seconds: float) -> None:
    await run_chaos(tmp_path, "redis", seconds)


@pytest.mark.parametrize(
    "seconds", [pytest.param(20.0, marks=exhaustive), pytest.param(120.0, marks=soak)]
)
async def test_over_one_database_file(tmp_path: Path, seconds: float) -> None:
    await run_chaos(tmp_path, "sqlite", seconds)


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian's package faketime)")
@pytest.mark.parametrize("store", ["redis", "sqlite"])
@pytest.mark.parametrize(
    "seconds", [pytest.param(25.0, marks=exhaustive), pytest.param(120.0, marks=soak)]
)
async def test_while_clocks_jump(tmp_path: Path, store: StoreKind, seconds: float) -> None:
    await run_chaos(tmp_path, store, seconds, jumps=True)
