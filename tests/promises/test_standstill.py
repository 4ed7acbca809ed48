"""A gateway that stood still (stopped, suspended) reads the keys before it decides again."""

import asyncio
import signal
from pathlib import Path

import pytest

from gateway.core.key_format import parse
from tests.support.raw import request_bytes, wire
from tests.support.replicas import STORES, StoreKind, running_replicas
from tests.support.rig import PROMPT
from tests.support.steps import tally

INVALID = (401, "authentication_error", "invalid_api_key")


@pytest.mark.parametrize("store", STORES)
async def test_keys_are_read_again_after_a_standstill(tmp_path: Path, store: StoreKind) -> None:
    async with running_replicas(tmp_path, store=store, shifts=(0.0,)) as replicas:
        gateway, team, counts = replicas.gateways[0], replicas.new_team(), replicas.sandbox.counts
        key, kept = await replicas.key(team), await replicas.further_key(team)
        assert (await gateway.generate(key, PROMPT)).status == 200
        asked = counts.asked
        async with wire(gateway.url) as begun:
            request = request_bytes(key)
            await begun.send(request[:-1])
            await asyncio.sleep(0.2)  # it is authenticated, and waits for its last byte
            gateway.send(signal.SIGSTOP)
            try:
                refused = [asyncio.create_task(gateway.generate(key)) for _ in range(30)]
                served = [asyncio.create_task(gateway.generate(kept)) for _ in range(5)]
                await begun.send(request[-1:])
                await replicas.operator("keys", "revoke", parse(key) or "")
                new = await replicas.operator("keys", "create", "--team", team)
                served.append(asyncio.create_task(gateway.generate(new)))
                await asyncio.sleep(2)
            finally:
                gateway.send(signal.SIGCONT)
            assert (await begun.answer()).error == (401, "invalid_api_key")
        assert tally(await asyncio.gather(*refused)) == {INVALID: 30}
        assert tally(await asyncio.gather(*served)) == {200: 6}
        assert counts.asked == asked + 6
        await replicas.assert_books(7, team=team)
