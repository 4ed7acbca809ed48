"""Keys and teams that another process changes: every gateway follows within a second."""

import asyncio
import time
from typing import Any

import pytest

from gateway.core.key_format import parse
from gateway.core.model import NO_LIMITS, Limits, Team
from tests.support.directory import put_teams, set_state
from tests.support.process import GatewayProcess
from tests.support.replicas import Replicas
from tests.support.rig import Got
from tests.support.steps import TOO_MUCH_AT_ONCE, USED_UP, tally

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = 1.0

INVALID = (401, "authentication_error", "invalid_api_key")
DISABLED = (403, "permission_error", "key_disabled")


async def everywhere(replicas: Replicas, key: str, wanted: int) -> list[Got]:
    """The first answer of each gateway with this status, which must come within a second."""
    deadline = time.monotonic() + SECONDS

    async def within(gateway: GatewayProcess) -> Got:
        while (got := await gateway.models(key)).status != wanted:
            assert time.monotonic() < deadline, got.body
            await asyncio.sleep(0.02)
        return got

    return list(await asyncio.gather(*map(within, replicas.gateways)))


async def at_each(replicas: Replicas, key: str, n: int = 1) -> list[Got]:
    """The answer of each gateway to a purchase."""
    return list(await asyncio.gather(*(each.generate(key, n=n) for each in replicas.gateways)))


async def set_key(replicas: Replicas, key: str, state: Any) -> None:
    await set_state(replicas.store.directory, parse(key) or "", state)


async def test_a_revoked_key_stops_everywhere_within_a_second(replicas: Replicas) -> None:
    team, asked = replicas.new_team(), replicas.sandbox.counts.asked
    count = len(replicas.gateways)
    key, other = await replicas.key(team), await replicas.further_key(team)
    assert tally(await at_each(replicas, key)) == {200: count}
    await set_key(replicas, key, "revoked")
    assert {got.error for got in await everywhere(replicas, key, 401)} == {INVALID}
    assert tally(await at_each(replicas, key)) == {INVALID: count}
    assert tally(await at_each(replicas, other)) == {200: count}
    assert replicas.sandbox.counts.asked - asked == 2 * count


async def test_a_disabled_key_is_refused_everywhere_and_can_be_enabled(replicas: Replicas) -> None:
    key = await replicas.key(replicas.new_team())
    await everywhere(replicas, key, 200)
    await set_key(replicas, key, "disabled")
    assert {got.error for got in await everywhere(replicas, key, 403)} == {DISABLED}
    await set_key(replicas, key, "active")
    await everywhere(replicas, key, 200)


async def test_a_new_key_works_at_once_everywhere(replicas: Replicas) -> None:
    await replicas.key(team := replicas.new_team())
    key = await replicas.operator("keys", "create", "--team", team)
    assert tally(await at_each(replicas, key)) == {200: len(replicas.gateways)}


async def test_a_rotated_key_and_its_successor_share_one_budget_until_the_grace_ends(
    replicas: Replicas,
) -> None:
    """The old key ends by the store's clock, however wrong the gateways' own clocks are."""
    limit = 3 * len(replicas.gateways) - 1
    old = await replicas.key(replicas.new_team(), key_limits=Limits(images_per_day=limit))
    assert 200 in tally(await at_each(replicas, old))
    new = await replicas.operator("keys", "rotate", parse(old) or "", "--grace", "4s")
    rotated = time.monotonic()
    assert tally(await at_each(replicas, new)) == {200: len(replicas.gateways)}
    both = [*await at_each(replicas, old), *await at_each(replicas, new)]
    assert tally(both)[USED_UP] == len(replicas.gateways) + 1
    assert {got.status for got in both} == {200, 429}
    await asyncio.sleep(4.1 - (time.monotonic() - rotated))
    assert {(await each.models(old)).status for each in replicas.gateways} == {401}
    await everywhere(replicas, new, 200)


async def test_a_teams_new_policy_and_limits_hold_everywhere(replicas: Replicas) -> None:
    team = replicas.new_team()
    key = await replicas.key(team, limits=Limits(images_per_day=5))

    async def sold() -> int:
        """How many of forty at once, over all gateways, are bought."""
        answers = tally(await asyncio.gather(*(replicas.generate(key) for _ in range(40))))
        assert answers.keys() <= {200, USED_UP, TOO_MUCH_AT_ONCE}
        return answers[200]

    async def change(limits: Limits = NO_LIMITS, **policy: Any) -> None:
        await put_teams(replicas.store.directory, [Team(name=team, limits=limits, **policy)])
        await asyncio.sleep(SECONDS)

    assert await sold() == 5
    await change(Limits(images_per_day=12))
    assert await sold() == 7
    await change(Limits(images_per_day=3))
    assert await sold() == 0
    await change(Limits(cost_per_day=600_000))
    assert await sold() == 3
    await change(max_n=1)
    refused = {got.error[2] for got in await at_each(replicas, key, n=2)}
    assert refused == {"n_not_allowed"}
    assert await sold() == 40
    await replicas.assert_books(55, team=team)


async def test_a_call_under_way_is_delivered_though_its_key_is_revoked_meanwhile(
    replicas: Replicas,
) -> None:
    team = replicas.new_team()
    key = await replicas.key(team)
    replicas.sandbox.settings.latency = 1.5
    buying = asyncio.create_task(replicas.generate(key))
    await asyncio.sleep(0.2)
    await set_key(replicas, key, "revoked")
    assert (await buying).status == 200
    replicas.sandbox.settings.latency = 0.1
    await replicas.assert_books(1, team=team)
