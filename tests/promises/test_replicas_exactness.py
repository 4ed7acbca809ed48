"""Limits hold to the image and to the cent over several gateways whose clocks disagree.

Each case is repeated on the same gateways, with a fresh team or key each time. What
was bought is counted by the upstream; what the gateways recorded must agree with it.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.core.key_format import parse
from gateway.core.model import Limits
from gateway.upstream.sandbox import Fault
from tests.support.money import (
    PRICE,
    TOO_MUCH_AT_ONCE,
    USED_UP,
    assert_spent,
    drawing,
    tally,
)
from tests.support.redis import running_redis
from tests.support.replicas import Replicas, patiently, running_replicas
from tests.support.rig import FLAT, Got

TEAMS = [f"team-{number}" for number in range(10)]


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    """Four gateways over a Redis, before a sandbox that draws dots in a tenth of a second."""
    async with (
        running_redis(tmp_path / "redis") as redis,
        running_replicas(tmp_path, redis.url, FLAT, drawing(latency=0.1)) as running,
    ):
        yield running


async def storm(replicas: Replicas, keys: Sequence[str], requests: int, most: int = 1) -> list[Got]:
    """All at once, in turn with each key, for 1 to `most` images each."""
    asked = (
        patiently(replicas, key, n=1 + number % most)
        for number, key in zip(range(requests), itertools.cycle(keys), strict=False)
    )
    return list(await asyncio.gather(*asked))


async def keep_asking(replicas: Replicas, key: str) -> None:
    """Buy one image after the other until the budget is used up, with little patience."""
    while (got := await patiently(replicas, key)).status != 429 or got.error != USED_UP:
        if got.status == 429:
            assert got.error == TOO_MUCH_AT_ONCE
        await asyncio.sleep(0.02)


# -- images -------------------------------------------------------------------------------------


async def test_1000_at_once_on_100_images_a_day_buy_exactly_100(
    replicas: Replicas, repeats: int
) -> None:
    for turn in range(repeats):
        team, before = f"team-{turn}", replicas.sandbox.counts.asked
        key = await replicas.key(team, limits=Limits(images_per_day=100))
        assert tally(await storm(replicas, [key], 1_000)) == {200: 100, USED_UP: 900}
        assert replicas.sandbox.counts.asked - before == 100
        await replicas.assert_books(team, 100)
    assert replicas.sandbox.counts.images_drawn == 100 * repeats


async def test_300_at_once_for_several_images_each_buy_never_more(
    replicas: Replicas, repeats: int
) -> None:
    for turn in range(repeats):
        team, before = f"team-{turn}", replicas.sandbox.counts.images_drawn
        key = await replicas.key(team, limits=Limits(images_per_day=100))
        assert set(tally(await storm(replicas, [key], 300, most=4))) == {200, USED_UP}
        bought = replicas.sandbox.counts.images_drawn - before
        assert 97 <= bought <= 100
        await replicas.assert_books(team, bought)


async def test_a_months_images_are_exact(replicas: Replicas, repeats: int) -> None:
    for turn in range(repeats):
        team = f"team-{turn}"
        key = await replicas.key(team, limits=Limits(images_per_month=20))
        assert tally(await storm(replicas, [key], 100)) == {200: 20, USED_UP: 80}
        await replicas.assert_books(team, 20)
    assert replicas.sandbox.counts.asked == 20 * repeats


async def test_a_keys_images_are_exact_under_its_teams(replicas: Replicas, repeats: int) -> None:
    for turn in range(repeats):
        team, before = f"team-{turn}", replicas.sandbox.counts.asked
        free = await replicas.key(team, limits=Limits(images_per_day=50))
        key = await replicas.further_key(team, limits=Limits(images_per_day=20))
        ours, others = await asyncio.gather(
            storm(replicas, [key], 200), storm(replicas, [free], 10)
        )
        assert tally(ours) == {200: 20, USED_UP: 180}
        assert tally(others) == {200: 10}
        assert tally(await storm(replicas, [free], 40)) == {200: 20, USED_UP: 20}
        assert replicas.sandbox.counts.asked - before == 50
        await replicas.assert_books(team, 50)
        counters = (await replicas.account(team)).keys[parse(key) or ""]
        assert (counters.day.images, counters.month.cost) == (20, 20 * PRICE)


# -- money --------------------------------------------------------------------------------------


async def test_a_dollar_buys_exactly_25_images_at_4_cents(replicas: Replicas, repeats: int) -> None:
    for turn in range(repeats):
        team, before = f"team-{turn}", replicas.sandbox.counts.images_drawn
        limit = ("cost_per_day", "cost_per_month")[turn % 2]
        # A cent's worth above 25 images: it buys nothing.
        key = await replicas.key(team, limits=Limits(**{limit: 1_000_000 + turn * 1_000}))
        # The first ones fail and are refunded: their money buys later ones.
        replicas.sandbox.faults.append(Fault(kind="status", status=500, times=10))
        await asyncio.gather(*(keep_asking(replicas, key) for _ in range(40)))
        assert replicas.sandbox.counts.images_drawn - before == 25
        await replicas.assert_books(team, 25)


# -- all teams together -------------------------------------------------------------------------


async def raise_limits(replicas: Replicas, **limits: object) -> None:
    """Give every gateway these limits of all teams together, as an operator does."""
    lines = "".join(f"{name} = {size}\n" for name, size in limits.items())
    toml = f"{FLAT}\n[limits]\n{lines}"
    for told in await asyncio.gather(*(each.reread(toml) for each in replicas.gateways)):
        assert told[-1]["event"] == "configuration read again"


async def test_ten_teams_share_the_gateways_images(replicas: Replicas, repeats: int) -> None:
    keys = [await replicas.key(team) for team in TEAMS]
    for turn in range(1, repeats + 1):
        limit = ("images_per_day", "images_per_month")[turn % 2]
        await raise_limits(replicas, **{limit: 100 * turn})
        assert tally(await storm(replicas, keys, 300)) == {200: 100, USED_UP: 200}
        assert replicas.sandbox.counts.asked == 100 * turn
        assert_spent(await replicas.gateway_account(), 100 * turn, 100 * turn * PRICE)
        teams = [await replicas.account(team) for team in TEAMS]
        assert sum(account.day.images for account in teams) == 100 * turn
        assert not any(account.holds for account in teams)


async def test_ten_teams_share_the_gateways_money(replicas: Replicas, repeats: int) -> None:
    keys = [await replicas.key(team) for team in TEAMS]
    for turn in range(1, repeats + 1):
        limit = ("cost_per_day_usd", "cost_per_month_usd")[turn % 2]
        await raise_limits(replicas, **{limit: 2 * turn + 0.01})
        replicas.sandbox.faults.append(Fault(kind="status", status=503, times=20))
        await asyncio.gather(*(keep_asking(replicas, key) for key in keys * 8))
        assert replicas.sandbox.counts.images_drawn == 50 * turn
        assert_spent(await replicas.gateway_account(), 50 * turn, 2_000_000 * turn)


# -- the minute and the moment ------------------------------------------------------------------


async def test_of_500_in_5_seconds_60_a_minute_are_bought(replicas: Replicas, repeats: int) -> None:
    async def ask_slowly(turn: int) -> None:
        key = await replicas.key(f"team-{turn}", limits=Limits(requests_per_minute=60))

        async def ask(delay: float) -> Got:
            await asyncio.sleep(delay)
            return await patiently(replicas, key)

        got = await asyncio.gather(*(ask(number / 100) for number in range(500)))
        assert tally(got) == {200: 60, TOO_MUCH_AT_ONCE: 440}
        await replicas.assert_books(f"team-{turn}", 60)

    turns = iter(range(repeats))
    while some := list(itertools.islice(turns, 5)):
        await asyncio.gather(*map(ask_slowly, some))
    assert replicas.sandbox.counts.asked == 60 * repeats


async def test_no_more_than_10_at_once_are_under_way(replicas: Replicas, repeats: int) -> None:
    for turn in range(repeats):
        team, before = f"team-{turn}", replicas.sandbox.counts.asked
        key = await replicas.key(team, limits=Limits(concurrent_requests=10))
        replicas.sandbox.counts.peak_in_flight = 0
        got = await storm(replicas, [key], 200)
        bought = replicas.sandbox.counts.asked - before
        assert tally(got) == {200: bought, TOO_MUCH_AT_ONCE: 200 - bought}
        assert 0 < replicas.sandbox.counts.peak_in_flight <= 10
        await replicas.assert_books(team, bought)
