"""The benchmarks: the gateway's cost beside a bare server, how it grows, and hostile clients.

python -m tests.benchmarks [--quick] [--only CASE]

Nothing is asserted here, because a busy machine would fail it. A missed target is marked.
"""

import logging
from collections.abc import Sequence
from importlib.util import find_spec

import click
import structlog
from msgspec.structs import replace

from tests.benchmarks import holds, hostile, overview
from tests.benchmarks.cases import CASES, FULL, QUICK, Case, Effort, run_case
from tests.benchmarks.growth import GROWTHS
from tests.benchmarks.processes import run
from tests.benchmarks.report import (
    add_answered,
    add_case,
    add_held,
    add_outcome,
    add_point,
    cases_table,
    console,
    growth_table,
    holds_table,
    hostile_table,
    overview_table,
)
from tests.support import big_store

OVERVIEW = "overview"
"""The case about the overview of a long history."""

HOLDS = "admin"
"""The case about requests to the admin API with a big store."""

ATTACKS = {attack.name: attack for attack in hostile.ATTACKS}

QUICK_SIZE = 1_000
"""The largest size of a quick run."""


@click.command()
@click.option("--quick", is_flag=True, help="One short round without growth: a minute at most.")
@click.option("--rounds", type=click.IntRange(1), help="How often each case is measured.")
@click.option(
    "--only",
    metavar="CASE",
    multiple=True,
    help="Only cases whose names begin with this: "
    + ", ".join([*(case.name for case in CASES), *GROWTHS, *ATTACKS, OVERVIEW, HOLDS])
    + ". Can be given several times.",
)
def main(quick: bool, rounds: int | None, only: tuple[str, ...]) -> None:
    """Compare the gateway with a bare aiohttp server, with a mock upstream on this machine."""
    effort = QUICK if quick else FULL
    if rounds is not None:
        effort = replace(effort, rounds=rounds)
    leaves_out = quick and not only
    cases = [case for case in CASES if _wanted(case.name, only) and not (case.extra and leaves_out)]
    growths = [name for name in GROWTHS if _wanted(name, only) and not leaves_out]
    attacks = [name for name in ATTACKS if _wanted(name, only) and not leaves_out]
    others = [name for name in (OVERVIEW, HOLDS) if _wanted(name, only) and not leaves_out]
    if not (cases or growths or attacks or others):
        raise click.UsageError("there is no such case; --help lists the cases")
    if find_spec("uvloop") is None:
        click.echo("uvloop is not installed: all servers run on asyncio's event loop.", err=True)
    run(_run(effort, cases, growths, attacks, others, quick=quick))


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.startswith(start) for start in only)


async def _run(
    effort: Effort,
    cases: Sequence[Case],
    growths: Sequence[str],
    attacks: Sequence[str],
    others: Sequence[str],
    *,
    quick: bool,
) -> None:
    screen = console()
    table = cases_table()
    for case in cases:
        click.echo(f"{case.name} ...", err=True)
        add_case(table, await run_case(case, effort))
    if cases:
        screen.print(table)
    table = growth_table()
    for name in growths:
        click.echo(f"cost with more {name} ...", err=True)
        grow, sizes = GROWTHS[name]
        if quick:
            sizes = [size for size in sizes if size <= QUICK_SIZE]
        async for point in grow(effort, sizes):
            add_point(table, point)
    if growths:
        screen.print(table)
    table = hostile_table()
    for name in attacks:
        click.echo(f"{name} ...", err=True)
        add_outcome(
            table, await hostile.measure(ATTACKS[name], hostile.Effort(rounds=effort.rounds))
        )
    if attacks:
        screen.print(table)
    await _run_others(others, quick=quick)


async def _run_others(others: Sequence[str], *, quick: bool) -> None:
    """Run cases with the gateway in this process."""
    if others:  # the gateway's log would stand between the lines
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if OVERVIEW in others:
        await _run_overview(overview.QUICK if quick else overview.FULL)
    if HOLDS in others:
        await _run_holds(holds.QUICK if quick else holds.FULL)


async def _run_overview(size: overview.Size) -> None:
    click.echo(f"overview over {size.images:,} images ...", err=True)
    table = overview_table(size)
    async for answered in overview.measure(size):
        add_answered(table, answered)
    console().print(table)


async def _run_holds(size: big_store.Size) -> None:
    click.echo(f"admin API with {size.teams:,} teams ...", err=True)
    table = holds_table(size)
    async for measured in holds.measure(size):
        add_held(table, measured)
    console().print(table)


if __name__ == "__main__":
    main()
