"""Several gateways and their store under a virtual clock, with trouble drawn from seeds."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, first_failure
from tests.simulation.run import Run

ROOT = Path(__file__).parents[2]
CHUNK = 25
LARGE_CHUNK = 250


def run_seeds(first: int, count: int) -> None:
    """Run these seeds. A seed that fails is replayed by the command in the message."""
    for seed in range(first, first + count):
        run = Run(seed)
        if found := run.find_violations():
            pytest.fail(f"{run.report(found)}\nReplay it: python -m tests.simulation {seed}")


@pytest.mark.parametrize("first", range(0, 200, CHUNK))
def test_no_promise_is_broken(first: int) -> None:
    run_seeds(first, CHUNK)


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", range(1_000, 3_000, LARGE_CHUNK))
def test_no_promise_is_broken_in_many_runs(first: int) -> None:
    run_seeds(first, LARGE_CHUNK)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 10_000, LARGE_CHUNK))
def test_no_promise_is_broken_in_new_runs(first: int) -> None:
    """The seeds are others every day."""
    today = int(time.time() // 86_400)
    run_seeds(today * 10_000 + first, LARGE_CHUNK)


def test_a_seed_always_means_the_same_run() -> None:
    """Otherwise a failure could not be replayed."""
    command = [sys.executable, "-m", "tests.simulation", "--history", "20-24"]
    histories = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": number},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert histories[0] == histories[1]
    assert len(histories[0].splitlines()) > 100


def test_the_simulation_bites() -> None:
    for mutant in MUTANTS[:2]:
        assert first_failure(mutant), mutant.safeguard


def test_each_safeguard_is_in_the_code() -> None:
    for mutant in MUTANTS:
        source = (ROOT / "gateway" / mutant.file).read_text()
        assert source.count(mutant.old) == 1, mutant.safeguard


def test_the_documentation_lists_all_safeguards() -> None:
    page = (ROOT / "docs" / "how-we-know.md").read_text()
    for mutant in MUTANTS:
        assert f"| {mutant.safeguard} |" in page


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)  # some take hundreds of seeds
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safeguard)
def test_each_safeguard_that_is_taken_out_is_missed(mutant: Mutant) -> None:
    assert first_failure(mutant), mutant.safeguard
