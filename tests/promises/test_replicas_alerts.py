"""Alerts of several gateways over one Redis: each is told once, also where the teller is killed."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.core.model import Limits
from gateway.reporting.alerts.delivery import CLAIM_SECONDS
from gateway.upstream.sandbox import Sandbox
from tests.support.money import drawing
from tests.support.process import running_process
from tests.support.receiver import SECRET, running_receiver
from tests.support.redis import running_redis
from tests.support.replicas import Replicas, open_shared, patiently, running_replicas
from tests.support.rig import FLAT

TOML = (
    FLAT
    + """
[alerts.webhooks.ops]
url_env = "GATEWAY_OPS_URL"
secret_env = "GATEWAY_OPS_SECRET"
"""
)


async def test_each_threshold_is_told_once_by_one_of_them(tmp_path: Path) -> None:
    async with (
        running_redis(tmp_path / "redis") as redis,
        running_receiver() as receiver,
        running_replicas(
            tmp_path, redis.url, TOML, OPS_URL=receiver.url, OPS_SECRET=SECRET
        ) as replicas,
    ):
        teams = [f"team-{number}" for number in range(5)]
        keys = [await replicas.key(team, limits=Limits(images_per_day=20)) for team in teams]
        for count in (16, 4):
            asked = (patiently(replicas, key) for key in keys for _ in range(count))
            assert {got.status for got in await asyncio.gather(*asked)} == {200}
            await receiver.until(len(teams) * (1 if count == 16 else 2))
        # All of them look at all accounts every five seconds: what is told then comes after those.
        late = await replicas.key("late", limits=Limits(images_per_day=4))
        for _ in range(4):
            assert (await patiently(replicas, late)).status == 200
        async with asyncio.timeout(60):
            while receiver.messages[-1].json["team"] != "late":
                await receiver.until(len(receiver.messages) + 1)
        told = [(each.json["team"], each.json["percent"]) for each in receiver.messages]
        assert sorted(told[: 2 * len(teams)]) == [
            (team, percent) for team in teams for percent in (80, 100)
        ]
        assert {team for team, _ in told[2 * len(teams) :]} == {"late"}
        assert len({each.id for each in receiver.messages}) == len(receiver.messages)
        assert all(each.is_signed for each in receiver.messages)


async def test_another_tells_what_a_killed_one_had_begun_to(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(running_redis(tmp_path / "redis"))
        receiver = await stack.enter_async_context(running_receiver())
        sandbox = await stack.enter_async_context(Sandbox(drawing()))
        environ = {
            "STORE_URL": redis.url,
            "KEYS_PEPPER": secrets.token_hex(32),
            "OPS_URL": receiver.url,
            "OPS_SECRET": SECRET,
        }
        store = await open_shared(sandbox, environ)
        stack.push_async_callback(store.close)
        replicas = Replicas(tmp_path, sandbox, store, TOML, environ)
        await stack.enter_async_context(replicas)
        (first,) = await replicas.start(0.0)
        receiver.seconds = 3_600  # it takes the message, and never says so
        key = await replicas.key("red", limits=Limits(images_per_day=1))
        assert (await patiently(first, key)).status == 200
        (begun,) = await receiver.until(1)
        await replicas.kill(first)
        receiver.seconds = 0
        await stack.enter_async_context(running_process(tmp_path, sandbox.url, TOML, **environ))
        _, told = await receiver.until(2, CLAIM_SECONDS + 60)
        assert (told.id, told.json["percent"], told.is_signed) == (begun.id, 100, True)

        async def is_done() -> bool:
            return all(claim.done for claim in await store.claims.current())

        async with asyncio.timeout(20):
            while not await is_done():  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.05)
        assert len(receiver.messages) == 2
