"""One cache for all teams: the first team pays, and no other team learns who it was."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.model import Limits
from tests.support.rig import FLAT, Rig, running_rig
from tests.support.steps import drawing

SHARED = (
    FLAT
    + """
[cache]
scope = "shared"
"""
)


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_rig(tmp_path, SHARED, drawing(latency=0.2)) as rig:
        yield rig


async def test_teams_answer_each_other_and_pay_apart(shared: Rig) -> None:
    red, blue = await shared.key("red"), await shared.key("blue")
    bought, hit = await shared.generate(red), await shared.generate(blue)
    assert (bought.body, shared.sandbox.counts.asked) == (hit.body, 1)
    assert hit.headers["Cache-Status"] == "gateway; hit"
    await shared.gateway.flush()
    rows = await shared.gateway.store.usage.report(("team",), None, None)
    assert [(row.group, row.images_bought, row.images_cached, row.cost) for row in rows] == [
        (("blue",), 0, 1, 0),
        (("red",), 1, 0, 40_000),
    ]


async def test_no_answer_shows_who_paid_first(shared: Rig) -> None:
    red, blue = await shared.key("red"), await shared.key("blue")
    await shared.generate(red, headers={"X-Request-Id": "reds-own"})
    hit = await shared.generate(blue, headers={"X-Request-Id": "blues-own"})
    shown = str(dict(hit.headers)) + hit.body.decode()
    assert "blues-own" in shown
    assert "red" not in shown


async def test_teams_share_a_flight_but_not_its_leaders_limits(shared: Rig) -> None:
    poor = await shared.key("poor", limits=Limits(images_per_day=0))
    rich = await shared.key("rich", limits=Limits(images_per_day=1))
    got = await asyncio.gather(*(shared.generate(key) for key in [poor, rich] * 5))
    refused, served = got[0::2], got[1::2]
    assert [answer.status for answer in served] == [200] * 5
    assert shared.sandbox.counts.asked == 1
    for answer in refused:
        # Refused by its own limit, or served by the other team's purchase.
        assert answer.status == 200 or "Team poor's" in answer.json["error"]["message"]
    assert "poor" not in "".join(str(answer.json) for answer in served)


async def test_teams_share_nothing_by_default(rig: Rig) -> None:
    red, blue = await rig.key("red"), await rig.key("blue")
    await rig.generate(red)
    assert (await rig.generate(blue)).headers["Cache-Status"] == "gateway; fwd=miss; stored"
