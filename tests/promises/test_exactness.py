"""Limits hold to the image and to the cent, for any number of requests at any number of gateways.

Each case repeats its load with a fresh team, because faults here show by chance. The upstream
counts the images that were bought; the gateways' records must agree with it.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.core.key_format import parse
from gateway.core.model import Limits
from gateway.quota.account import MINUTE_BUCKETS
from gateway.quota.ledger import Ledger
from gateway.quota.steps import Held, Settle
from gateway.stores.sqlite import SqliteStore
from gateway.upstream.sandbox import UpstreamFault
from tests.chaos.witness import Witness
from tests.support.quota_steps import NOON, reserve
from tests.support.replicas import Replicas, patiently
from tests.support.rig import FLAT, PRICE, Got, assert_spent
from tests.support.steps import AWAY, TOO_MUCH_AT_ONCE, USED_UP, tally

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEAMS = [f"team-{number}" for number in range(10)]


async def storm(
    asker: Replicas | Witness, keys: Sequence[str], requests: int, most: int = 1
) -> list[Got]:
    """All at once, in turn with each key, for 1 to `most` images each."""
    ask = asker.patiently if isinstance(asker, Witness) else partial(patiently, asker)
    asked = (
        ask(key, n=1 + number % most)
        for number, key in zip(range(requests), itertools.cycle(keys), strict=False)
    )
    return list(await asyncio.gather(*asked))


async def keep_asking(asker: Replicas | Witness, key: str) -> None:
    """Buy one image after the other until the budget is used up, and wait for no Retry-After."""
    ask = asker.patiently if isinstance(asker, Witness) else partial(patiently, asker)
    while (got := await ask(key)).status != 429 or got.error != USED_UP:
        if got.status == 429:
            assert got.error == TOO_MUCH_AT_ONCE
            assert 1 <= int(got.headers["Retry-After"]) < 60
        await asyncio.sleep(0.02)


# -- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "most"), [(400, 1), (150, 4)])
async def test_a_crowd_buys_exactly_its_images(
    replicas: Replicas, repeats: int, requests: int, most: int
) -> None:
    for turn in range(repeats):
        team, before = replicas.new_team(), replicas.sandbox.counts.images_drawn
        limit = ("images_per_day", "images_per_month")[turn % 2]
        limits = Limits(**{limit: 100})
        key = await replicas.key(team, limits=limits)
        witness = Witness(replicas, team, {("team", team): limits})
        got = tally(await storm(witness, [key], requests, most))
        bought = replicas.sandbox.counts.images_drawn - before
        # The last images may be too few for any request that is still to come.
        assert 100 - most < bought <= 100
        assert got.keys() == {200, USED_UP}
        assert most > 1 or got[200] == bought
        await replicas.assert_books(bought, team=team)
        await witness.assert_promises()


async def test_a_keys_images_are_exact_within_its_teams(replicas: Replicas, repeats: int) -> None:
    for _ in range(repeats):
        team, before = replicas.new_team(), replicas.sandbox.counts.asked
        of_team, of_key = Limits(images_per_day=50), Limits(images_per_day=20)
        free = await replicas.key(team, limits=of_team)
        key = await replicas.further_key(team, limits=of_key)
        limits = {("team", team): of_team, ("key", parse(key) or ""): of_key}
        witness = Witness(replicas, team, limits)
        ours, others = await asyncio.gather(storm(witness, [key], 100), storm(witness, [free], 10))
        assert tally(ours) == {200: 20, USED_UP: 80}
        assert tally(others) == {200: 10}
        assert tally(await storm(witness, [free], 40)) == {200: 20, USED_UP: 20}
        assert replicas.sandbox.counts.asked - before == 50
        await replicas.assert_books(50, team=team)
        counters = (await replicas.account(team)).keys[parse(key) or ""]
        assert (counters.day.images, counters.month.cost) == (20, 20 * PRICE)
        await witness.assert_promises()


# -- money --------------------------------------------------------------------------------------


async def test_a_dollar_buys_exactly_25_images_at_4_cents(replicas: Replicas, repeats: int) -> None:
    for turn in range(repeats):
        team, before = replicas.new_team(), replicas.sandbox.counts.images_drawn
        limit = ("cost_per_day", "cost_per_month")[turn % 2]
        # Some of these limits are a little above 25 images: the rest buys nothing.
        limits = Limits(**{limit: 1_000_000 + turn % 40 * 1_000})
        key = await replicas.key(team, limits=limits)
        witness = Witness(replicas, team, {("team", team): limits})
        # The first calls fail and are refunded: their money buys later images.
        replicas.sandbox.faults.append(UpstreamFault(kind="status", status=500, times=10))
        await asyncio.gather(*(keep_asking(witness, key) for _ in range(20)))
        assert replicas.sandbox.counts.images_drawn - before == 25
        await replicas.assert_books(25, team=team)
        await witness.assert_promises()


# -- the limits of the whole gateway ------------------------------------------------------------


SetLimit = Callable[[str, object], Awaitable[None]]


@pytest_asyncio.fixture(loop_scope="session")
async def set_gateway_limit(replicas: Replicas) -> AsyncIterator[SetLimit]:
    """Gives every gateway a limit of all teams together, as an operator does, until the end."""

    async def configure(toml: str) -> None:
        for lines in await asyncio.gather(*(each.reread(toml) for each in replicas.gateways)):
            assert lines[-1]["event"] == "configuration read again"

    yield lambda name, size: configure(f"{FLAT}\n[limits]\n{name} = {size}\n")
    await configure(FLAT)


async def test_ten_teams_share_the_gateways_images(
    replicas: Replicas, repeats: int, set_gateway_limit: SetLimit
) -> None:
    keys = [await replicas.key(team) for team in TEAMS]
    for turn in range(repeats):
        before, drawn = await replicas.gateway_account(), replicas.sandbox.counts.images_drawn
        images = before.day.images + 100
        limit = ("images_per_day", "images_per_month")[turn % 2]
        await set_gateway_limit(limit, images)
        assert tally(await storm(replicas, keys, 200)) == {200: 100, USED_UP: 100}
        assert replicas.sandbox.counts.images_drawn - drawn == 100
        assert_spent(await replicas.gateway_account(), images, images * PRICE)
        assert not any([(await replicas.account(team)).holds for team in TEAMS])


async def test_ten_teams_share_the_gateways_money(
    replicas: Replicas, repeats: int, set_gateway_limit: SetLimit
) -> None:
    keys = [await replicas.key(team) for team in TEAMS]
    for turn in range(repeats):
        before, drawn = await replicas.gateway_account(), replicas.sandbox.counts.images_drawn
        images = before.day.images + 50
        limit = ("cost_per_day_usd", "cost_per_month_usd")[turn % 2]
        await set_gateway_limit(limit, images * 0.04 + 0.01)
        replicas.sandbox.faults.append(UpstreamFault(kind="status", status=503, times=20))
        await asyncio.gather(*(keep_asking(replicas, key) for key in keys * 4))
        assert replicas.sandbox.counts.images_drawn - drawn == 50
        assert_spent(await replicas.gateway_account(), images, images * PRICE)


# -- requests a minute and at once --------------------------------------------------------------


async def test_of_500_in_5_seconds_60_a_minute_are_bought(replicas: Replicas, repeats: int) -> None:
    async def ask_for_5_seconds() -> None:
        team, given_up = replicas.new_team(), 0
        key = await replicas.key(team, limits=Limits(requests_per_minute=60))

        async def ask(delay: float) -> Got:
            nonlocal given_up
            await asyncio.sleep(delay)
            while (got := await replicas.generate(key)).status == 503:
                assert got.error == AWAY
                given_up += 1
            return got

        got = await asyncio.gather(*(ask(number / 100) for number in range(500)))
        bought = tally(got)[200]
        assert tally(got) == {200: bought, TOO_MUCH_AT_ONCE: 500 - bought}
        # A slow disk may have admitted a request after its client gave up: its place is taken.
        assert max(1, 60 - given_up) <= bought <= 60
        await replicas.assert_books(bought, team=team)

    for _ in range(1 + repeats // 10):
        await ask_for_5_seconds()


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

        await asyncio.gather(*map(ask, range(800)))
        assert await ledger.close(5)
    admitted.sort()
    for first, later in zip(admitted, admitted[60:], strict=False):
        assert later - first > 60
    minutes = (fast() - NOON) / MINUTE_BUCKETS
    assert len(admitted) >= 60 * int(minutes - 0.5)


async def test_never_more_than_10_at_once(replicas: Replicas, repeats: int) -> None:
    for _ in range(repeats):
        team, before = replicas.new_team(), replicas.sandbox.counts.asked
        limits = Limits(concurrent_requests=10)
        key = await replicas.key(team, limits=limits)
        witness = Witness(replicas, team, {("team", team): limits})
        replicas.sandbox.counts.peak_in_flight = 0
        got = await storm(witness, [key], 100)
        bought = replicas.sandbox.counts.asked - before
        assert tally(got) == {200: bought, TOO_MUCH_AT_ONCE: 100 - bought}
        assert 0 < replicas.sandbox.counts.peak_in_flight <= 10
        await replicas.assert_books(bought, team=team)
        await witness.assert_promises()
