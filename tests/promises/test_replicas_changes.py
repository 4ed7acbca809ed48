"""Keys and teams changed by the command line: every gateway follows within a second."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.key_format import parse
from gateway.core.model import Limits
from tests.support.money import TOO_MUCH_AT_ONCE, USED_UP, tally
from tests.support.process import GatewayProcess
from tests.support.redis import running_redis
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import Got

SECONDS = 1.0

INVALID = (401, "authentication_error", "invalid_api_key")
DISABLED = (403, "permission_error", "key_disabled")


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    """Four gateways over a Redis."""
    async with (
        running_redis(tmp_path / "redis") as redis,
        running_replicas(tmp_path, redis.url) as running,
    ):
        yield running


async def everywhere(replicas: Replicas, key: str, wanted: int) -> list[Got]:
    """What each gateway says once it answers with this status, which must come within a second."""
    deadline = time.monotonic() + SECONDS

    async def within(gateway: GatewayProcess) -> Got:
        while (got := await gateway.models(key)).status != wanted:
            assert time.monotonic() < deadline, got.body
            await asyncio.sleep(0.02)
        return got

    return list(await asyncio.gather(*map(within, replicas.gateways)))


async def at_each(replicas: Replicas, key: str, n: int = 1) -> list[Got]:
    """What each gateway says to a purchase."""
    return list(await asyncio.gather(*(each.generate(key, n=n) for each in replicas.gateways)))


async def test_a_revoked_key_stops_everywhere_within_a_second(replicas: Replicas) -> None:
    key, other = await replicas.key(), await replicas.further_key("team")
    assert tally(await at_each(replicas, key)) == {200: 4}
    await replicas.operator("keys", "revoke", parse(key) or "")
    assert {got.error for got in await everywhere(replicas, key, 401)} == {INVALID}
    assert tally(await at_each(replicas, key)) == {INVALID: 4}
    assert tally(await at_each(replicas, other)) == {200: 4}
    assert replicas.sandbox.counts.asked == 8


async def test_a_disabled_key_is_told_so_everywhere_and_can_be_enabled(replicas: Replicas) -> None:
    key = await replicas.key()
    await everywhere(replicas, key, 200)
    await replicas.operator("keys", "disable", parse(key) or "")
    assert {got.error for got in await everywhere(replicas, key, 403)} == {DISABLED}
    await replicas.operator("keys", "enable", parse(key) or "")
    await everywhere(replicas, key, 200)


async def test_a_new_key_works_at_once_everywhere(replicas: Replicas) -> None:
    await replicas.key()
    for _ in range(3):
        key = await replicas.operator("keys", "create", "--team", "team")
        assert tally(await at_each(replicas, key)) == {200: 4}


async def test_a_rotated_key_and_its_successor_share_one_budget(replicas: Replicas) -> None:
    old = await replicas.key(key_limits=Limits(images_per_day=10))
    assert tally(await at_each(replicas, old)) == {200: 4}
    new = await replicas.operator("keys", "rotate", parse(old) or "", "--grace", "1h")
    assert tally(await at_each(replicas, new)) == {200: 4}
    both = await asyncio.gather(at_each(replicas, old), at_each(replicas, new))
    assert tally([*both[0], *both[1]]) == {200: 2, USED_UP: 6}
    await replicas.operator("keys", "revoke", parse(old) or "")
    assert {got.error for got in await everywhere(replicas, old, 401)} == {INVALID}
    await everywhere(replicas, new, 200)


async def test_a_keys_time_ends_everywhere_at_once(replicas: Replicas) -> None:
    """By the store's clock, though the gateways' own are up to a day apart."""
    old = await replicas.key()
    await everywhere(replicas, old, 200)
    await replicas.operator("keys", "rotate", parse(old) or "", "--grace", "0s")
    await everywhere(replicas, old, 401)


async def test_a_teams_new_limits_hold_everywhere(replicas: Replicas, tmp_path: Path) -> None:
    key = await replicas.key(limits=Limits(images_per_day=5))

    async def sold() -> int:
        """How many of forty at once, over all gateways, are bought."""
        answers = tally(await asyncio.gather(*(replicas.generate(key) for _ in range(40))))
        assert answers.keys() <= {200, USED_UP, TOO_MUCH_AT_ONCE}
        return answers[200]

    async def apply(policy: str) -> None:
        file = tmp_path / "teams.toml"
        file.write_text(f"[teams.team]\n{policy}\n")
        await replicas.operator("teams", "apply", str(file))
        await asyncio.sleep(SECONDS)

    assert await sold() == 5
    await apply("limits.images_per_day = 12")
    assert await sold() == 7
    await apply("limits.images_per_day = 3")
    assert await sold() == 0
    await apply("limits.cost_per_day_usd = 0.60")
    assert await sold() == 3
    await apply("max_n = 1")
    refused = {got.error[2] for got in await at_each(replicas, key, n=2)}
    assert refused == {"n_not_allowed"}
    assert await sold() == 40
    await replicas.assert_books("team", 55)
