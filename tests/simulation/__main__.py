"""Replays seeds: `python -m tests.simulation 1234`, or a range of them: `1000-1999`.

With --first, the first seed that fails is the last one; with --history, each history is printed.
"""

import sys
import time

import click

from tests.simulation.run import Run


def main(*arguments: str) -> int:
    """Print the history of each seed that fails, and of a single seed in any case."""
    options = {text for text in arguments if text.startswith("--")}
    seeds = [seed for text in arguments if text not in options for seed in _seeds(text)]
    failed = 0
    started = time.perf_counter()
    for seed in seeds:
        run = Run(seed)
        found = run.find_violations()
        failed += bool(found)
        if found or len(seeds) == 1 or "--history" in options:
            click.echo(run.report(found))
        if found and "--first" in options:
            break
    seconds = time.perf_counter() - started
    click.echo(f"{len(seeds)} seeds, {failed} failed, {seconds:.1f} s", err=True)
    return 1 if failed else 0


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
