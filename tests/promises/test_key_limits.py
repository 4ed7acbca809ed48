"""A key's own limits, end to end: they refuse in the key's name and leave other keys alone."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.core.key_format import parse
from gateway.core.model import Limits
from tests.support.rig import FLAT, PRICE, Got, Rig, running_rig
from tests.support.steps import TOO_MUCH_AT_ONCE, USED_UP, calls, drawing, tally, until

ONE = Limits(images_per_day=1)


async def storm(rig: Rig, key: str, requests: int, prompt: str | None = None) -> list[Got]:
    return list(await asyncio.gather(*(rig.generate(key, prompt) for _ in range(requests))))


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        (Limits(images_per_day=1), USED_UP),
        (Limits(images_per_month=1), USED_UP),
        (Limits(cost_per_day=PRICE), USED_UP),
        (Limits(cost_per_month=PRICE), USED_UP),
        (Limits(requests_per_minute=1), TOO_MUCH_AT_ONCE),
        (Limits(concurrent_requests=1), TOO_MUCH_AT_ONCE),
    ],
)
async def test_each_limit_refuses_in_the_keys_name(
    tmp_path: Path, limits: Limits, kind: object
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0)) as rig:
        free = await rig.key("team")
        key = await rig.further_key("team", limits=limits)
        if limits.concurrent_requests:
            rig.sandbox.settings.latency = 1
        first = asyncio.create_task(rig.generate(key, None))
        await until(lambda: calls(rig) == 1)
        if not limits.concurrent_requests:
            assert (await first).status == 200
        refused = await rig.generate(key, None)
        assert refused.error == kind
        assert refused.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
        assert (await rig.generate(free, None)).status == 200
        assert (await first).status == 200


async def test_the_headers_show_the_tighter_limit(rig: Rig) -> None:
    wide = await rig.key("team", limits=Limits(images_per_day=10, requests_per_minute=5))
    key = await rig.further_key("team", limits=Limits(images_per_day=3, requests_per_minute=9))
    headers = (await rig.generate(key, None)).headers
    assert headers["x-ratelimit-limit-images"] == "3"
    assert headers["x-ratelimit-remaining-images"] == "2"
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert (await rig.generate(wide, None)).headers["x-ratelimit-remaining-images"] == "8"


async def test_the_keys_of_a_line_share_one_budget_and_one_history(rig: Rig) -> None:
    await rig.key("team")
    old = await rig.further_key("team", limits=Limits(images_per_day=3))
    first = parse(old)
    new = await rig.further_key("team", limits=Limits(images_per_day=3), first=first)
    assert (await rig.generate(old, "a")).status == 200
    assert (await rig.generate(new, "b", n=2)).status == 200
    assert (await rig.generate(new, "a")).headers["Cache-Status"] == "gateway; hit"
    for key in (old, new):
        refused = await rig.generate(key, "c")
        assert refused.error == USED_UP
        assert refused.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
    await rig.gateway.flush()
    (row,) = await rig.gateway.store.usage.report(["key"], None, None)
    assert (row.group, row.images_bought, row.images_cached) == ((first,), 3, 1)


# -- shared flights -----------------------------------------------------------------------------


async def test_a_keys_refusal_does_not_reach_other_keys_on_the_same_flight(rig: Rig) -> None:
    free = await rig.key("team")
    for turn in range(10):
        empty = await rig.further_key("team", limits=Limits(images_per_day=0))
        before, prompt = calls(rig), f"picture {turn}"
        answers = asyncio.gather(
            *(rig.generate(key, prompt) for _ in range(10) for key in (empty, free))
        )
        for number, got in enumerate(await answers):
            assert got.status == (200 if number % 2 else 429), got.body
            if got.status == 429:
                assert got.json["error"]["message"].startswith(f"Key sk-gw-{parse(empty)}'s ")
        assert calls(rig) - before == 1


async def test_every_key_is_refused_by_its_own_limit(rig: Rig) -> None:
    await rig.key("team")
    keys = [await rig.further_key("team", limits=Limits(images_per_day=0)) for _ in range(40)]
    for key, got in zip(
        keys, await asyncio.gather(*(rig.generate(key) for key in keys)), strict=True
    ):
        assert got.json["error"]["message"].startswith(f"Key sk-gw-{parse(key)}'s ")
    assert calls(rig) == 0
    last = await rig.further_key("team", limits=ONE)
    answers = await asyncio.gather(*(rig.generate(key) for key in [*keys, last]))
    assert Counter(got.status for got in answers) == {429: 40, 200: 1}
    assert calls(rig) == 1


async def test_a_teams_refusal_reaches_all_its_keys(rig: Rig) -> None:
    first = await rig.key("team", limits=Limits(images_per_day=0))
    second = await rig.further_key("team", limits=ONE)
    answers = await asyncio.gather(*(rig.generate(key) for key in (first, second) * 20))
    assert tally(answers) == {USED_UP: 40}
    assert all(got.json["error"]["message"].startswith("Team team's") for got in answers)


async def test_a_purchase_by_a_limited_key_is_shared_with_the_others(tmp_path: Path) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.3)) as rig:
        await rig.key("team")
        one, other = [await rig.further_key("team", limits=ONE) for _ in range(2)]
        at_once = asyncio.gather(storm(rig, one, 5, "p"), storm(rig, other, 5, "p"))
        assert [tally(answers) for answers in await at_once] == [{200: 5}, {200: 5}]
        assert calls(rig) == 1
        assert (await rig.account()).keys.keys() == {parse(one)}
