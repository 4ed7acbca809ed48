"""The parts of the benchmarks work: one tiny round of each."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import cases, growth, holds, hostile, overview
from tests.benchmarks.cases import Case, Effort, run_case
from tests.benchmarks.driver import Load, answer_once, ask_together, keep_asking
from tests.benchmarks.hostile import Attack
from tests.benchmarks.processes import running
from tests.benchmarks.report import (
    add_answered,
    add_case,
    add_held,
    add_outcome,
    add_point,
    cases_table,
    growth_table,
    holds_table,
    hostile_table,
    overview_table,
)
from tests.benchmarks.stage import fresh, stage

SLOWER = [name for name in growth.GROWTHS if name != "holds"]
TINY = Effort(rounds=1, seconds=0.2, share=0.02)
HIT = Case(name="hit", hit=True, connections=2, target=1.0)
CROWD = Case(name="crowd", crowd=500, distinct=1, held="0.5", measure="p99", target=0.1)


def _printed(table: object) -> str:
    output = StringIO()
    Console(file=output, width=200).print(table)
    return output.getvalue()


async def test_a_hit_is_measured_on_both_servers() -> None:
    result = await run_case(HIT, TINY)
    for (figures,) in (result.gateway, result.plain):
        assert figures.requests > 0
        assert (figures.failed, figures.calls) == (0, 0)
        assert figures.cpu > 0
        assert figures.peak > 10_000_000
        assert 0 < figures.p50 <= figures.p99
    table = cases_table()
    add_case(table, result)
    assert "gateway" in _printed(table)


@pytest.mark.exhaustive  # its short sister: the hit
async def test_a_crowd_asks_the_upstream_once() -> None:
    result = await run_case(CROWD, TINY)
    assert [figures.calls for figures in result.gateway] == [1]
    assert [figures.requests for figures in result.plain] == [10]
    assert [figures.calls for figures in result.plain] == [10]


@pytest.mark.parametrize(
    "name", ["holds", *(pytest.param(each, marks=pytest.mark.exhaustive) for each in SLOWER)]
)
async def test_growth_is_measured(name: str) -> None:
    grow, _ = growth.GROWTHS[name]
    points = [point async for point in grow(TINY, (1, 3))]
    assert [(point.size, point.last) for point in points] == [(1, False), (3, True)]
    assert all(point.hit.failed == point.miss.failed == 0 for point in points)
    assert all(point.hit.calls == 0 for point in points)
    # There may be none: on a busy machine the connections alone can take this long.
    assert all(point.miss.calls == point.miss.requests for point in points)
    table = growth_table()
    for point in points:
        add_point(table, point)
    assert f"3 {points[0].what}" in _printed(table)


async def test_the_drivers_ask_what_the_load_says(tmp_path: Path) -> None:
    load = Load(keys=("a", "b"), first=fresh(), distinct=3, path="/cache")
    async with (
        running(tmp_path, "tests.benchmarks.mock") as mock,
        running(tmp_path, "tests.benchmarks.bare", mock.url) as bare,
    ):
        await answer_once(bare.port, load)
        together = await ask_together(bare.port, load, 4, spread=0.1)
        assert (together.requests, together.failed) == (4, 0)
        kept_on = await keep_asking(bare.port, load, 2, 0.2)
        assert kept_on.requests > 2
        assert kept_on.failed == 0


async def test_the_overview_is_measured_on_both_stores() -> None:
    size = overview.Size(images=1_000, teams=3, days=9)
    table = overview_table(size)
    stores = []
    async for answered in overview.measure(size):
        stores.append(answered.store)
        assert 0 < min(answered.warm) <= answered.usual <= max(answered.warm)
        assert min(answered.cold, answered.filled, answered.bytes) > 0
        add_answered(table, answered)
    assert stores == ["SQLite", "Redis"]
    assert "324 entries" in _printed(table)


@pytest.mark.parametrize(
    "attacks",
    [hostile.ATTACKS[:1], pytest.param(hostile.ATTACKS[1:], marks=pytest.mark.exhaustive)],
    ids=["slow heads", "others"],
)
async def test_a_healthy_client_is_served_during_attacks(attacks: Sequence[Attack]) -> None:
    table = hostile_table()
    async with stage() as on:
        for attack in attacks:
            effort = hostile.Effort(rounds=1, seconds=0.5, share=0.1)
            outcome = await hostile.measure_on(on, attack, effort)
            for (taken,) in (outcome.alone, outcome.attacked):
                assert (taken.requests, taken.failed) == (100, 0)
                assert 0 < taken.p50 <= taken.p99
            if attack.holds:
                # So few connections share what the process takes once.
                assert max(outcome.bytes) < 5 * hostile.MOST_BYTES
            add_outcome(table, outcome)
    assert "target" in _printed(table)


@pytest.mark.exhaustive  # its short sister: the overview; tests/web/admin/test_holds.py has more
async def test_holds_are_measured_on_both_stores() -> None:
    table = holds_table(holds.QUICK)
    measured = [each async for each in holds.measure(holds.QUICK)]
    for each in measured:
        assert 0 < each.held.cpu < 1
        add_held(table, each)
    assert [each.store for each in measured if each.last] == ["SQLite", "Redis"]
    printed = _printed(table)
    assert "GET cache/top?limit=1000" in printed
    assert "20 teams" in printed


async def test_a_server_that_does_not_start_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No module named"):
        async with running(tmp_path, "tests.benchmarks.absent"):
            pass


def test_requests_of_a_load_have_one_length() -> None:
    load = Load(keys=("one", "other"), first=7, distinct=2)
    assert [load.number(index) for index in range(6)] == [7, 7, 8, 8, 7, 7]
    assert load.priming == 4
    assert len(load.ends()) == 2
    assert Load(keys=("one",), first=7).number(5) == 12


def test_every_case_has_a_name_of_its_own() -> None:
    attacks = (attack.name for attack in hostile.ATTACKS)
    names = [*(case.name for case in cases.CASES), *growth.GROWTHS, *attacks]
    assert len(set(names)) == len(names)
