"""Several gateways over a Redis send each alert once, also when one is killed as it sends it."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.model import Limits
from gateway.reporting.alerts.delivery import CLAIM_SECONDS
from tests.support.receiver import SECRET, running_receiver
from tests.support.replicas import patiently, running_replicas
from tests.support.rig import FLAT
from tests.support.steps import until

TOML = (
    FLAT
    + """
[alerts.webhooks.ops]
url_env = "GATEWAY_OPS_URL"
secret_env = "GATEWAY_OPS_SECRET"
"""
)


async def test_each_threshold_is_reported_once_by_one_of_them(tmp_path: Path) -> None:
    async with (
        running_receiver() as receiver,
        running_replicas(
            tmp_path, TOML, shifts=(0.0, -30.0), OPS_URL=receiver.url, OPS_SECRET=SECRET
        ) as replicas,
    ):
        teams = [f"team-{number}" for number in range(5)]
        keys = [await replicas.key(team, limits=Limits(images_per_day=20)) for team in teams]
        for count in (16, 4):
            asked = (patiently(replicas, key) for key in keys for _ in range(count))
            assert {got.status for got in await asyncio.gather(*asked)} == {200}
            await receiver.until(len(teams) * (1 if count == 16 else 2))
        # Every gateway looks at all accounts every five seconds: second reports would come first.
        late = await replicas.key("late", limits=Limits(images_per_day=4))
        for _ in range(4):
            assert (await patiently(replicas, late)).status == 200
        async with asyncio.timeout(60):
            while receiver.messages[-1].json["team"] != "late":
                await receiver.until(len(receiver.messages) + 1)
        reported = [(each.json["team"], each.json["percent"]) for each in receiver.messages]
        assert sorted(reported[: 2 * len(teams)]) == [
            (team, percent) for team in teams for percent in (80, 100)
        ]
        assert {team for team, _ in reported[2 * len(teams) :]} == {"late"}
        assert len({each.id for each in receiver.messages}) == len(receiver.messages)
        assert all(each.is_signed for each in receiver.messages)


@pytest.mark.exhaustive  # its short sisters: tests/conformance/claims.py and test_delivery.py
async def test_another_gateway_sends_the_alert_that_a_killed_one_began_to_send(
    tmp_path: Path,
) -> None:
    async with (
        running_receiver() as receiver,
        running_replicas(
            tmp_path, TOML, shifts=(0.0,), OPS_URL=receiver.url, OPS_SECRET=SECRET
        ) as replicas,
    ):
        receiver.seconds = 3_600  # it takes the message, and never answers
        key = await replicas.key("red", limits=Limits(images_per_day=1))
        assert (await patiently(replicas, key)).status == 200
        (begun,) = await receiver.until(1)
        await replicas.kill(replicas.gateways[0])
        receiver.seconds = 0
        await replicas.start(0.0)
        _, sent = await receiver.until(2, CLAIM_SECONDS + 60)
        assert (sent.id, sent.json["percent"], sent.is_signed) == (begun.id, 100, True)

        async def is_done() -> bool:
            return all(claim.done for claim in await replicas.store.claims.current())

        await until(is_done, 20)
        assert len(receiver.messages) == 2
