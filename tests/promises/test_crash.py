"""A killed gateway forgets no money: what it had sent upstream is charged, exactly once.

Leases are short here (the upstream's timeout plus 5 s), so that a test can wait for the sweep.
"""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Limits
from gateway.proxy.context import LEASE_SLACK_SECONDS
from gateway.quota.ledger import SWEEP_SECONDS
from tests.support.replicas import (
    STORES,
    Replicas,
    StoreKind,
    mortally,
    patiently,
    running_replicas,
)
from tests.support.rig import FLAT, Got
from tests.support.steps import TOO_MUCH_AT_ONCE, USED_UP, drawing, tally, until

TIMEOUT_SECONDS = 3.0
LEASE_SECONDS = TIMEOUT_SECONDS + LEASE_SLACK_SECONDS
SWEPT_SECONDS = LEASE_SECONDS + 10
"""After its reservation, when the hold of a dead gateway is charged at the latest."""

FAILED_IN_TIME = {200, (504, "upstream_error", "upstream_timeout")}
"""A busy machine may take longer for a call than the gateways wait."""

over_each_store = pytest.mark.parametrize("store", STORES)


@asynccontextmanager
async def mortal_replicas(
    folder: Path, store: StoreKind, latency: float
) -> AsyncIterator[Replicas]:
    environ: dict[str, Any] = {
        "UPSTREAM_CONNECT_SECONDS": "1",
        "UPSTREAM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
    }
    slow = drawing(latency=latency)
    async with running_replicas(folder, FLAT, slow, store=store, **environ) as made:
        yield made


def asking(replicas: Replicas, key: str, number: int) -> list[asyncio.Task[Got | None]]:
    """So many distinct requests under way, at each gateway in turn: None where it dies."""
    return [asyncio.create_task(mortally(replicas.next(), key)) for _ in range(number)]


# -- killed with calls upstream -----------------------------------------------------------------


async def test_the_others_charge_what_a_killed_and_a_frozen_gateway_had_upstream(
    tmp_path: Path,
) -> None:
    calls = 60
    async with mortal_replicas(tmp_path, "redis", latency=2) as replicas:
        counts = replicas.sandbox.counts
        key = await replicas.key(limits=Limits(images_per_day=2 * calls, concurrent_requests=calls))
        late_key = await replicas.key("late")
        frozen = replicas.gateways.pop()
        late = [asyncio.create_task(mortally(frozen, late_key)) for _ in range(20)]
        asked = asking(replicas, key, calls)
        await until(lambda: counts.asked == calls + 20, 30)
        frozen.send(signal.SIGSTOP)
        await replicas.kill(replicas.gateways[0])
        answers = await asyncio.gather(*asked)
        assert tally(got for got in answers if got is not None).keys() == {200}
        lost = answers.count(None)
        assert 0 < lost <= calls / 2
        # The calls of the dead gateway are still held: nobody may use their slots.
        assert len((await replicas.account()).holds) == lost
        replicas.sandbox.settings.latency = 0.5
        got = await asyncio.gather(*replicas.buying(key, calls))
        assert tally(got) == {200: calls - lost, TOO_MUCH_AT_ONCE: lost}
        for team, number, unknown in (("team", 2 * calls - lost, lost), ("late", 20, 20)):
            await until(lambda team=team: replicas.is_closed(team), SWEPT_SECONDS)  # type: ignore[misc]
            await replicas.assert_books(number, team=team)
            assert (await replicas.usage(team)).images_unknown == unknown
        # The slots are free again, and the rest of the budget can be bought.
        got = await asyncio.gather(*(patiently(replicas, key) for _ in range(lost + 5)))
        assert tally(got) == {200: lost, USED_UP: 5}
        # A gateway that wakes up after the sweep charges nothing twice.
        frozen.send(signal.SIGCONT)
        assert None not in await asyncio.gather(*late)
        await replicas.assert_books(20, team="late")
        assert counts.images_drawn == 2 * calls + 20


@pytest.mark.parametrize(
    "seconds", [LEASE_SECONDS, pytest.param(0.0, marks=pytest.mark.exhaustive)]
)
async def test_the_only_gateway_is_killed_and_started_again(tmp_path: Path, seconds: float) -> None:
    """Before its leases run out, and after: then it charges them as it starts."""
    async with mortal_replicas(tmp_path, "sqlite", latency=0.1) as replicas:
        await replicas.kill(replicas.gateways[0])
        key = await replicas.key(limits=Limits(images_per_day=60, concurrent_requests=40))
        await asyncio.gather(*asking(replicas, key, 7))
        await replicas.assert_books(7)
        replicas.sandbox.settings.latency = TIMEOUT_SECONDS  # none is answered before the death
        lost = asking(replicas, key, 40)
        await until(lambda: replicas.sandbox.counts.asked == 47)
        await replicas.kill(replicas.gateways[0])
        assert await asyncio.gather(*lost) == [None] * 40
        replicas.sandbox.settings.latency = 0.1
        await asyncio.sleep(seconds)
        assert len((await replicas.account()).holds) == 40
        await replicas.start(0.0)
        await until(replicas.is_closed, SWEEP_SECONDS / 2 if seconds else SWEPT_SECONDS)
        assert replicas.sandbox.counts.images_drawn == 47
        await replicas.assert_books(47)
        got = await asyncio.gather(*replicas.buying(key, 20))
        assert tally(got) == {200: 13, USED_UP: 7}


# -- killed at any moment -----------------------------------------------------------------------


def arrived(replicas: Replicas, team: str) -> set[str]:
    """The prompts of this team that have arrived upstream."""
    received = replicas.sandbox.counts.requests
    prompts = (json.loads(request.body)["prompt"] for request in received)
    return {prompt for prompt in prompts if prompt.split()[0] == team}


async def kill_under_load(replicas: Replicas, team: str, key: str, calls: int) -> tuple[int, int]:
    """Ask in bursts, kill the first gateway after so many calls upstream, and go on asking.

    Returns how many calls have arrived upstream, and how many more the killed gateway can have
    reserved without sending them.
    """
    victim, counts = replicas.gateways[0], replicas.sandbox.counts
    enough, begun = counts.asked + calls, set[str]()

    async def buy(number: int) -> Got | None:
        await asyncio.sleep(number // 50 * 0.05)
        gateway, prompt = replicas.next(), f"{team} {number}"
        if gateway is victim:
            begun.add(prompt)
        return await mortally(gateway, key, prompt=prompt)

    asked = [asyncio.create_task(buy(number)) for number in range(200)]
    # Looked at without a pause: there is only a moment between a reservation and its call.
    while counts.asked < enough:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await replicas.kill(victim)
    answers = await asyncio.gather(*asked)
    assert tally(got for got in answers if got is not None).keys() <= FAILED_IN_TIME
    received = arrived(replicas, team)
    return len(received), len(begun - received)


@over_each_store
async def test_killed_at_any_moment_under_load(
    tmp_path: Path, store: StoreKind, repeats: int
) -> None:
    """Between reservation and call, between call and settlement, in the middle of a write."""
    chance, asked = random.Random(5), dict[str, tuple[int, int]]()
    async with mortal_replicas(tmp_path, store, latency=0.1) as replicas:
        for _ in range(repeats):
            team = replicas.new_team()
            key = await replicas.key(
                team, limits=Limits(images_per_day=1_000, concurrent_requests=200)
            )
            asked[team] = await kill_under_load(replicas, team, key, chance.randint(1, 150))
            await replicas.start(0.0)
        for team, (bought, unsent) in asked.items():
            await until(lambda team=team: replicas.is_closed(team), SWEPT_SECONDS)  # type: ignore[misc]
            recorded = (await replicas.account(team)).day.images
            # Never less than was bought; above that only what was reserved and never sent.
            assert bought <= recorded <= bought + unsent
            await replicas.assert_books(recorded, team=team)


async def test_sigterm_settles_what_is_under_way(tmp_path: Path) -> None:
    async with mortal_replicas(tmp_path, "redis", latency=1) as replicas:
        key = await replicas.key(limits=Limits(images_per_day=24))
        asked = asking(replicas, key, 24)
        await until(lambda: replicas.sandbox.counts.asked == 24)
        ends = await asyncio.gather(*(gateway.terminate() for gateway in replicas.gateways))
        assert set(ends) == {0}
        assert tally(got for got in await asyncio.gather(*asked) if got) == {200: 24}
        await replicas.assert_books(24)
