"""Limits hold to the image and to the cent, however many ask at once.

Each case is repeated, because what goes wrong here goes wrong by chance. What was bought is
counted by the upstream; what the gateway recorded must agree with it.
"""

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from gateway.core.model import Limits
from gateway.quota.account import MINUTE_BUCKETS
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held, Settle
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import Fault
from tests.support.money import (
    AWAY,
    PRICE,
    TOO_MUCH_AT_ONCE,
    USED_UP,
    assert_books,
    assert_spent,
    drawing,
    gateway_account,
    tally,
)
from tests.support.process import GatewayProcess, running_process
from tests.support.quota_steps import NOON, reserve
from tests.support.rig import FLAT, Got, Rig, running_rig

FOLLOW_SECONDS = 0.5
"""When another process knows of a key, at the latest."""

TEAMS = [f"team-{number}" for number in range(10)]


async def patiently(asker: Rig | GatewayProcess, key: str, n: int = 1) -> Got:
    """Ask, and again where the store was too slow, as the SDKs do: a disk may stall for seconds."""
    while (got := await asker.generate(key, None, n=n)).status == 503:
        assert got.error == AWAY
    return got


async def storm(rig: Rig, keys: list[str], requests: int, most: int = 1) -> list[Got]:
    """All at once, in turn with each key, for 1 to `most` images each."""
    asked = (
        patiently(rig, key, n=1 + number % most)
        for number, key in zip(range(requests), itertools.cycle(keys), strict=False)
    )
    return list(await asyncio.gather(*asked))


async def keep_asking(rig: Rig, key: str) -> None:
    """Buy one image after the other until the budget is used up, with little patience."""
    while (got := await patiently(rig, key)).status != 429 or got.error != USED_UP:
        if got.status == 429:
            assert got.error == TOO_MUCH_AT_ONCE
            assert 1 <= int(got.headers["Retry-After"]) <= 60
        await asyncio.sleep(0.02)


# -- images -------------------------------------------------------------------------------------


async def test_1000_at_once_on_100_images_a_day_buy_exactly_100(
    tmp_path: Path, repeats: int
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.2)) as rig:
        for turn in range(repeats):
            team, before = f"team-{turn}", rig.sandbox.counts.asked
            key = await rig.key(team, limits=Limits(images_per_day=100))
            assert tally(await storm(rig, [key], 1_000)) == {200: 100, USED_UP: 900}
            assert rig.sandbox.counts.asked - before == 100
            await assert_books(rig, team, 100, 100 * PRICE)
        usage = await rig.usage()
        assert usage.images_bought == rig.sandbox.counts.images_drawn == 100 * repeats
        assert usage.requests == 100 * repeats


async def test_300_at_once_for_several_images_each_buy_never_more(
    tmp_path: Path, repeats: int
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.1)) as rig:
        for turn in range(repeats):
            team, before = f"team-{turn}", rig.sandbox.counts.images_drawn
            key = await rig.key(team, limits=Limits(images_per_day=100))
            assert set(tally(await storm(rig, [key], 300, most=4))) == {200, USED_UP}
            bought = rig.sandbox.counts.images_drawn - before
            assert 97 <= bought <= 100
            await assert_books(rig, team, bought, bought * PRICE)


async def test_a_months_images_are_exact(tmp_path: Path, repeats: int) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.05)) as rig:
        for turn in range(repeats):
            team = f"team-{turn}"
            key = await rig.key(team, limits=Limits(images_per_month=20))
            assert tally(await storm(rig, [key], 100)) == {200: 20, USED_UP: 80}
            await assert_books(rig, team, 20, 20 * PRICE)
        assert rig.sandbox.counts.asked == 20 * repeats


# -- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["cost_per_day", "cost_per_month"])
async def test_a_dollar_buys_exactly_25_images_at_4_cents(
    tmp_path: Path, limit: str, repeats: int
) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.05)) as rig:
        for turn in range(repeats):
            team, before = f"team-{turn}", rig.sandbox.counts.images_drawn
            # A cent's worth above 25 images: it buys nothing.
            key = await rig.key(team, limits=Limits(**{limit: 1_000_000 + turn * 1_000}))
            # The first ones fail and are refunded: their money buys later ones.
            rig.sandbox.faults.append(Fault(kind="status", status=500, times=10))
            await asyncio.gather(*(keep_asking(rig, key) for _ in range(40)))
            assert rig.sandbox.counts.images_drawn - before == 25
            await assert_books(rig, team, 25, 1_000_000)


# -- the gateway as a whole ---------------------------------------------------------------------


@pytest.mark.parametrize("span", ["day", "month"])
async def test_ten_teams_share_the_gateways_images(tmp_path: Path, span: str, repeats: int) -> None:
    toml = f"{FLAT}\n[limits]\nimages_per_{span} = 100\n"
    for turn in range(0, repeats, 2):
        folder = tmp_path / str(turn)
        folder.mkdir()
        async with running_rig(folder, toml, drawing(latency=0.1)) as rig:
            keys = [await rig.key(team) for team in TEAMS]
            got = await storm(rig, keys, 300)
            assert tally(got) == {200: 100, USED_UP: 200}
            assert rig.sandbox.counts.asked == 100
            assert_spent(await gateway_account(rig), 100, 100 * PRICE)
            teams = [await rig.account(team) for team in TEAMS]
            assert sum(account.day.images for account in teams) == 100
            assert not any(account.holds for account in teams)


@pytest.mark.parametrize("span", ["day", "month"])
async def test_ten_teams_share_the_gateways_money(tmp_path: Path, span: str) -> None:
    toml = f"{FLAT}\n[limits]\ncost_per_{span}_usd = 2.01\n"
    async with running_rig(tmp_path, toml, drawing(latency=0.05)) as rig:
        keys = [await rig.key(team) for team in TEAMS]
        rig.sandbox.faults.append(Fault(kind="status", status=503, times=20))
        await asyncio.gather(*(keep_asking(rig, key) for key in keys * 8))
        assert rig.sandbox.counts.images_drawn == 50
        assert_spent(await gateway_account(rig), 50, 2_000_000)


# -- the minute ---------------------------------------------------------------------------------


async def test_of_500_in_5_seconds_60_a_minute_are_bought(tmp_path: Path, repeats: int) -> None:
    async with running_rig(tmp_path, FLAT, drawing(latency=0.02)) as rig:

        async def ask_slowly(turn: int) -> int:
            team = f"team-{turn}"
            key = await rig.key(team, limits=Limits(requests_per_minute=60))

            given_up = 0

            async def ask(delay: float) -> Got:
                nonlocal given_up
                await asyncio.sleep(delay)
                while (got := await rig.generate(key, None)).status == 503:
                    assert got.error == AWAY
                    given_up += 1
                return got

            got = await asyncio.gather(*(ask(number / 100) for number in range(500)))
            bought = tally(got)[200]
            assert tally(got) == {200: bought, TOO_MUCH_AT_ONCE: 500 - bought}
            # A stalled disk may have admitted what was given up on: its place is taken.
            assert max(1, 60 - given_up) <= bought <= 60
            await assert_books(rig, team, bought, bought * PRICE)
            return bought

        bought = 0
        for turn in range(0, repeats, 2):
            bought += sum(await asyncio.gather(*map(ask_slowly, range(turn, turn + 2))))
        assert rig.sandbox.counts.asked == bought


async def test_never_more_than_60_in_any_60_seconds(tmp_path: Path) -> None:
    """Over a clock that runs 60 times as fast, so that the minute slides along."""
    started = time.monotonic()

    def fast() -> float:
        return NOON + (time.monotonic() - started) * 60

    admitted: list[float] = []
    limits = Limits(requests_per_minute=60)
    async with SqliteStore(tmp_path / "gateway.db", wall=fast, monotonic=fast) as store:
        ledger = Ledger(store.accounts, spread=lambda: 0.5)
        await ledger.start()

        async def ask(number: int) -> None:
            await asyncio.sleep(number / 250)
            held = await ledger.reserve(reserve(str(number), limits=limits))
            if isinstance(held, Held):
                admitted.append(held.at)
                await ledger.finish(Settle(id=str(number), team="red", images=1, cost=PRICE))

        await asyncio.gather(*map(ask, range(1_250)))
        assert await ledger.close(5)
    admitted.sort()
    assert all(later - first > 60 for first, later in itertools.pairwise(admitted[::60]))
    for first, later in zip(admitted, admitted[60:], strict=False):
        assert later - first > 60
    minutes = (fast() - NOON) / MINUTE_BUCKETS
    assert len(admitted) >= 60 * int(minutes - 0.5)


# -- two processes ------------------------------------------------------------------------------


async def test_two_processes_share_a_teams_images(tmp_path: Path, repeats: int) -> None:
    async with (
        running_rig(tmp_path, FLAT, drawing(latency=0.1)) as rig,
        running_process(tmp_path, rig.sandbox.url, FLAT) as other,
    ):
        teams = [f"team-{turn}" for turn in range(repeats)]
        keys = [await rig.key(team, limits=Limits(images_per_day=100)) for team in teams]
        await asyncio.sleep(FOLLOW_SECONDS)
        for team, key in zip(teams, keys, strict=True):
            before = rig.sandbox.counts.asked
            here = storm(rig, [key], 150)
            there = asyncio.gather(*(patiently(other, key) for _ in range(150)))
            first, second = await asyncio.gather(here, there)
            assert tally([*first, *second]) == {200: 100, USED_UP: 200}
            assert rig.sandbox.counts.asked - before == 100
            await assert_books(rig, team, 100, 100 * PRICE)


async def test_two_processes_share_the_gateways_images(tmp_path: Path) -> None:
    toml = f"{FLAT}\n[limits]\nimages_per_day = 400\n"
    async with (
        running_rig(tmp_path, toml, drawing(latency=0.1)) as rig,
        running_process(tmp_path, rig.sandbox.url, toml) as other,
    ):
        keys = [await rig.key(team) for team in TEAMS]
        await asyncio.sleep(FOLLOW_SECONDS)
        here = storm(rig, keys, 300)
        there = asyncio.gather(*(patiently(other, key) for key in keys * 30))
        first, second = await asyncio.gather(here, there)
        assert tally([*first, *second]) == {200: 400, USED_UP: 200}
        assert rig.sandbox.counts.images_drawn == 400
        assert_spent(await gateway_account(rig), 400, 400 * PRICE)
