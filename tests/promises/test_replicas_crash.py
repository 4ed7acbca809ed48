"""A killed gateway's money is not forgotten: those that live on charge what it may have bought.

Leases are short here (the upstream's timeout plus 5 s), so that the sweep can be waited for.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.core.model import Limits
from gateway.proxy.context import LEASE_SLACK_SECONDS
from tests.support.money import drawing, tally, until
from tests.support.redis import running_redis
from tests.support.replicas import SHIFTS, Replicas, mortally, patiently, running_replicas
from tests.support.rig import FLAT, Got

TIMEOUT_SECONDS = 3.0
QUICK = {
    "UPSTREAM_CONNECT_SECONDS": "1",
    "UPSTREAM_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
}
SWEPT_SECONDS = TIMEOUT_SECONDS + LEASE_SLACK_SECONDS + 10
"""After its reservation, when the hold of a dead process is charged at the latest."""

IN_FLIGHT = 200


@asynccontextmanager
async def mortal_replicas(folder: Path, latency: float) -> AsyncIterator[Replicas]:
    async with (
        running_redis(folder / "redis") as redis,
        running_replicas(folder, redis.url, FLAT, drawing(latency=latency), **QUICK) as running,
    ):
        yield running


def answered(answers: Iterable[Got | None]) -> Counter[int | tuple[int, str, str]]:
    return tally(got for got in answers if got is not None)


async def test_one_killed_with_200_calls_upstream(tmp_path: Path) -> None:
    limits = Limits(images_per_day=1_000, concurrent_requests=IN_FLIGHT)
    async with mortal_replicas(tmp_path, latency=2) as replicas:
        key = await replicas.key(limits=limits)
        asked = [asyncio.create_task(mortally(replicas.next(), key)) for _ in range(IN_FLIGHT)]
        await until(lambda: replicas.sandbox.counts.asked == IN_FLIGHT, 30)
        await replicas.kill(replicas.gateways[1])
        answers = await asyncio.gather(*asked)
        assert answered(answers).keys() == {200}
        # What the dead one had upstream is held for now: nobody may use its slots.
        lost = answers.count(None)
        assert 0 < lost <= 50
        assert len((await replicas.account()).holds) == lost
        await until(replicas.is_closed, SWEPT_SECONDS)
        assert replicas.sandbox.counts.images_drawn == IN_FLIGHT
        await replicas.assert_books("team", IN_FLIGHT)
        (row,) = await replicas.store.usage.report((), None, None)
        assert row.images_unknown == lost
        # All slots are free again.
        got = await asyncio.gather(*(patiently(replicas, key) for _ in range(IN_FLIGHT)))
        assert tally(got) == {200: IN_FLIGHT}
        await replicas.assert_books("team", 2 * IN_FLIGHT)


def arrived(replicas: Replicas, team: str) -> set[str]:
    """The prompts of this team that the upstream was asked for."""
    received = replicas.sandbox.counts.requests
    prompts = (json.loads(request.body)["prompt"] for request in received)
    return {prompt for prompt in prompts if prompt.split()[0] == team}


async def kill_under_load(replicas: Replicas, team: str, key: str, calls: int) -> int:
    """Ask in bursts, kill the first gateway once so many calls are upstream, and go on asking.

    Tells how many calls it can have held and not sent.
    """
    victim, counts = replicas.gateways[0], replicas.sandbox.counts
    enough, begun = counts.asked + calls, set[str]()

    async def buy(number: int) -> Got | None:
        await asyncio.sleep(number // 50 * 0.05)
        gateway, prompt = replicas.next(), f"{team} {number}"
        if gateway is victim:
            begun.add(prompt)
        return await mortally(gateway, key, prompt=prompt)

    asked = [asyncio.create_task(buy(number)) for number in range(IN_FLIGHT)]
    # Looked at without a pause: between a hold and its call there is a moment only.
    while counts.asked < enough:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await replicas.kill(victim)
    assert answered(await asyncio.gather(*asked)).keys() == {200}
    return len(begun - arrived(replicas, team))


async def assert_recorded(replicas: Replicas, team: str, unsent: int) -> None:
    """Never less than was bought, and more by the holds that were not sent at most."""
    await until(lambda: replicas.is_closed(team), SWEPT_SECONDS)
    account = await replicas.account(team)
    recorded, bought = account.day.images, len(arrived(replicas, team))
    assert bought <= recorded <= bought + unsent
    await replicas.assert_books(team, recorded)


async def test_killed_at_any_moment_under_load(tmp_path: Path) -> None:
    """Between reservation and call, call and settlement, in the middle of a write."""
    chance, unsent = random.Random(5), dict[str, int]()
    async with mortal_replicas(tmp_path, latency=0.1) as replicas:
        for turn in range(20):
            team = f"team-{turn}"
            limits = Limits(images_per_day=1_000, concurrent_requests=IN_FLIGHT)
            key = await replicas.key(team, limits=limits)
            unsent[team] = await kill_under_load(replicas, team, key, chance.randint(1, 150))
            await replicas.start(SHIFTS[turn % len(SHIFTS)])
        for team, number in unsent.items():
            await assert_recorded(replicas, team, number)
        assert sum(unsent.values()) > 0
