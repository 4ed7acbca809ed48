"""The figures as tables."""

from collections.abc import Callable, Sequence
from statistics import median

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.benchmarks.cases import Case, Result
from tests.benchmarks.growth import Point
from tests.benchmarks.holds import Measured
from tests.benchmarks.hostile import MOST_BYTES, Outcome
from tests.benchmarks.overview import TARGET_SECONDS, Answered, Size
from tests.benchmarks.stage import Figures
from tests.support.big_store import Size as BigSize
from tests.support.holds import MOST_SECONDS

WIDTH = 132
"""Width of the tables: a narrower terminal wraps lines and loses nothing."""


def console() -> Console:
    """The console to print to."""
    return Console(width=max(WIDTH, Console().width))


def cases_table() -> Table:
    """The empty table of the cases."""
    table = _table("The gateway and a bare aiohttp server, medians of all rounds", "Case")
    table.add_column("Server", no_wrap=True)
    for title in ("CPU s/1,000", "p50 ms", "p99 ms", "Peak MB", "Requests", "Calls"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Gateway to bare (spread)", no_wrap=True)
    return table


def add_case(table: Table, result: Result) -> None:
    """The two lines of a case."""
    case, compared = result.case, result.compared
    middle = median(compared)
    lowest, highest = (_compared(case, value) for value in (min(compared), max(compared)))
    spread = f"{_compared(case, middle)}{_unit(case)} ({lowest} to {highest})"
    table.add_row(case.name, "gateway", *_cells(result.gateway), spread)
    table.add_row("", "bare", *_cells(result.plain), _target(case, middle), end_section=True)


def growth_table() -> Table:
    """The empty table of how cost grows."""
    table = _table("How the gateway's cost grows, CPU seconds per 1,000 requests", "With")
    for title in ("Hit CPU s", "p50 ms", "p99 ms", "Miss CPU s", "p50 ms", "p99 ms", "Peak MB"):
        table.add_column(title, justify="right", no_wrap=True)
    return table


def add_point(table: Table, point: Point) -> None:
    """The line of one size."""
    cells = [
        text
        for figures in (point.hit, point.miss)
        for text in (f"{figures.cpu:.3f}", _ms(figures.p50), _ms(figures.p99))
    ]
    peak = max(point.hit.peak, point.miss.peak)
    table.add_row(f"{point.size:,} {point.what}", *cells, _mb(peak), end_section=point.last)


def overview_table(size: Size) -> Table:
    """The empty table of how quickly the overview answers."""
    table = _table(
        f"The overview: {size.days} days, {size.teams:,} teams, {size.images:,} images in "
        f"{size.rows:,} entries",
        "Store",
    )
    for column in ("Filled in s", "MB", "Cold ms", "Warm ms (median)", "Slowest ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def add_answered(table: Table, answered: Answered) -> None:
    """The line of one store."""
    slowest = max(answered.cold, *answered.warm)
    figures = (answered.cold, answered.usual, max(answered.warm))
    table.add_row(
        answered.store,
        f"{answered.filled:.0f}",
        _mb(answered.bytes),
        *(f"{seconds * 1000:.0f}" for seconds in figures),
        _judged(slowest, TARGET_SECONDS, f"{TARGET_SECONDS * 1000:g} ms"),
    )


def hostile_table() -> Table:
    """The empty table of what a healthy client notices of attacks."""
    table = _table("A healthy client alone and during an attack, medians of all rounds", "Attack")
    for column in ("Size", "p50 ms", "p99 ms", "then p50", "p99 ms", "Moved ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("kB each", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def add_outcome(table: Table, outcome: Outcome) -> None:
    """The line of one attack."""
    attack, target = outcome.attack, outcome.target
    times = [
        _ms(value)
        for rounds in (outcome.alone, outcome.attacked)
        for value in (median(taken.p50 for taken in rounds), outcome.p99(rounds))
    ]
    failed = sum(taken.failed for taken in (*outcome.alone, *outcome.attacked))
    each = max(outcome.bytes, default=None)  # later rounds use memory of earlier ones again
    table.add_row(
        f"{attack.name}, {failed:,} FAILED" if failed else attack.name,
        f"{attack.count:,}" if attack.holds else f"{attack.count:,}/s",
        *times,
        f"{outcome.moved * 1000:+.2f}",
        _judged(outcome.moved, target, f"{target * 1000:g} ms"),
        "" if each is None else f"{each / 1000:.1f}",
        "" if each is None else _judged(each, MOST_BYTES, f"{MOST_BYTES / 1000:g} kB"),
    )


def holds_table(size: BigSize) -> Table:
    """The empty table of how long requests to the admin API hold the event loop."""
    table = _table(
        f"Holds of the event loop: {size.teams:,} teams, {size.images:,} images, "
        f"{size.answers:,} cached answers",
        "Store",
    )
    table.add_column("Request", overflow="ellipsis", max_width=76, no_wrap=True)
    for column in ("CPU ms", "Time ms"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def add_held(table: Table, measured: Measured) -> None:
    """The line of one request."""
    held = measured.held
    table.add_row(
        measured.store,
        measured.request,
        f"{held.cpu * 1000:.1f}",
        f"{held.wall * 1000:.1f}",
        _judged(held.cpu, MOST_SECONDS, f"{MOST_SECONDS * 1000:g} ms"),
        end_section=measured.last,
    )


def _table(title: str, first: str) -> Table:
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    return table


def _cells(rounds: Sequence[Figures]) -> list[str]:
    def middle(value: Callable[[Figures], float]) -> float:
        return median(map(value, rounds))

    failed = sum(figures.failed for figures in rounds)
    requests = f"{middle(lambda f: f.requests):,.0f}"
    return [
        f"{middle(lambda f: f.cpu):.3f}",
        _ms(middle(lambda f: f.p50)),
        _ms(middle(lambda f: f.p99)),
        _mb(middle(lambda f: f.peak)),
        f"{requests}, {failed:,} FAILED" if failed else requests,
        f"{middle(lambda f: f.calls):,.0f}",
    ]


def _compared(case: Case, value: float) -> str:
    return f"{value:.2f}" if case.measure == "cpu" else f"{value * 1000:+.2f}"


def _unit(case: Case) -> str:
    return "" if case.measure == "cpu" else f" ms {case.measure}"


def _target(case: Case, middle: float) -> Text:
    if case.target is None:
        return Text("")
    most = f"{case.target:g}" if case.measure == "cpu" else f"{case.target * 1000:g} ms"
    return _judged(middle, case.target, most)


def _judged(value: float, target: float, most: str) -> Text:
    if value <= target:
        return Text(f"target {most}: met", style="green")
    return Text(f"target {most}: MISSED", style="bold red")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _mb(size: float) -> str:
    return f"{size / 1_000_000:,.0f}"
