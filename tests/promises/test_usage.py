"""The usage report against the upstream's own counts, after everything that can happen."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.upstream.sandbox import UpstreamFault
from tests.support.process import Program
from tests.support.rig import FLAT, Rig, running_rig
from tests.support.steps import drawing, until

FREE = (400, 401, 404, 422, 429, 500, 503)
UNKNOWN = (408, 502, 504, 520)
SUMS = (
    "requests",
    "requests_refused",
    "images_bought",
    "images_cached",
    "images_coalesced",
    "images_unknown",
    "cost_usd",
    "saved_usd",
)


async def report(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The output of `gateway usage` for the data in `folder`."""
    operator = Program(
        folder, STORE_URL=f"sqlite:{folder / 'gateway.db'}", KEYS_PEPPER_FILE=str(folder / "pepper")
    )
    code, out, err = await operator.command("usage", "--format", "json", *arguments)
    assert code == 0, err
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


def sums(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    return {name: sum((Decimal(row[name]) for row in rows), Decimal(0)) for name in SUMS}


async def traffic(rig: Rig) -> Counter[str]:
    """Purchases, hits, followers, refusals and failures, in turn and at once; returns answers."""
    red, second, blue = await rig.key("red"), await rig.further_key("red"), await rig.key("blue")
    poor = await rig.key("poor", limits=Limits(images_per_day=2))
    rig.sandbox.settings.latency = 0.1
    answers = await asyncio.gather(
        *(rig.generate(red, f"p{number % 5}", n=1 + number % 2) for number in range(40)),
        *(rig.generate(second, f"p{number % 5}", n=1) for number in range(10)),
        *(rig.generate(blue, None, n=3) for _ in range(7)),
        *(rig.generate(poor, None) for _ in range(9)),
        *(rig.generate("nobody") for _ in range(3)),
        *(rig.generate(blue, " ") for _ in range(3)),
    )
    rig.sandbox.settings.latency = 0
    for code in (*FREE, *UNKNOWN):
        rig.sandbox.fault = UpstreamFault(kind="status", status=code, times=1)
        answers.append(await rig.generate(blue, None, n=2))
    for fault in (
        UpstreamFault(kind="cut_before_headers", times=1),
        UpstreamFault(kind="cut_in_body", times=1),
        UpstreamFault(kind="fewer", images=3, times=1),
    ):
        rig.sandbox.fault = fault
        answers.append(await rig.generate(red, None, n=4))
    answers += [await rig.generate(red, "p1", n=2) for _ in range(6)]
    rig.sandbox.settings.latency = 0.4
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.generate(blue, "gone", n=2), 0.2)
    await until(lambda: not rig.gateway.proxy.flights)
    return Counter(str(got.status) for got in answers)


async def test_reports_equal_what_the_upstream_counted_and_the_budgets(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing()) as rig:
        asked = await traffic(rig)
        await rig.gateway.flush()
        drawn = rig.sandbox.counts.images_drawn
        by_team = await report(tmp_path)
        # 10 distinct of red, 7 x 3 of blue, 2 of poor; 4 unknown x 2; two cuts x 4; 3 of 4; gone.
        assert drawn == 15 + 21 + 2 + 8 + 8 + 3 + 2
        total = sums(by_team)
        assert total["images_bought"] == drawn
        assert total["images_unknown"] == 8 + 8
        assert total["cost_usd"] == drawn * Decimal("0.04")
        assert total["saved_usd"] == total["images_cached"] * Decimal("0.04")
        assert total["images_cached"] == 60 - 15 + 10 + 12
        # Nearly all of the first ones, which came together; the last twelve are hits.
        assert 0 < total["images_coalesced"] <= total["images_cached"] - 12
        # Over the limit, and bad requests; those without a key belong to no team.
        assert total["requests_refused"] == 7 + 3
        # Every admitted or served request: no refusals, unknown keys or bad requests.
        assert total["requests"] == sum(asked.values()) + 1 - 7 - 3 - 3

        for by in ("key", "model", "size", "quality", "outcome", "hour", "day"):
            rows = await report(tmp_path, "--by", by)
            assert sums(rows) == total, by
            assert all(row[by] for row in rows)
        assert {row["team"] for row in by_team} == {"red", "blue", "poor"}
        assert {row["day"] for row in rows} == {datetime.now(UTC).strftime("%Y-%m-%d")}
        keys = await report(tmp_path, "--by", "key")
        assert len(keys) == 4
        assert all(row["key"].startswith("sk-gw-") and "_" not in row["key"] for row in keys)
        for row in by_team:
            account = await rig.account(row["team"])
            assert account.day.images == account.month.images == row["images_bought"]
            assert Decimal(account.month.cost) / 1_000_000 == Decimal(row["cost_usd"])
            assert not account.holds


async def test_hits_of_the_last_second_are_written_at_the_end(tmp_path: Path) -> None:
    async with running_rig(tmp_path) as rig:
        key = await rig.key()
        for _ in range(5):
            await rig.generate(key)
    (row,) = await report(tmp_path)
    assert (row["requests"], row["images_cached"]) == (5, 4)
