"""The example of nginx before several gateways, as deploy/ has it."""

import asyncio
import io
import json
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest

from gateway.core.model import Limits
from gateway.server.gateway import LINGER_SECONDS
from tests.support.balancers import balancing, nginx_config
from tests.support.raw import refuses
from tests.support.redis import free_port
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, Got
from tests.support.steps import USED_UP, drawing, tally, until

TOO_LARGE = (413, "invalid_request_error", "body_too_large")

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


class Balancer:
    """nginx with the example's configuration, on this port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def generate(self, key: str, prompt: str | None = None) -> Got:
        """Ask for an image through it, over a new connection. Without a prompt it is a new one."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}/v1/images/generations",
                headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                data=io.BytesIO(json.dumps({"prompt": prompt or secrets.token_hex(8)}).encode()),
            ) as response,
        ):
            return await Got.read(response)


@asynccontextmanager
async def balanced(folder: Path, latency: float) -> AsyncIterator[tuple[Balancer, Replicas]]:
    """nginx before two gateways over a Redis."""
    port = free_port()
    slow = drawing(latency=latency)
    async with running_replicas(folder, FLAT, slow, shifts=(0.0, 0.0)) as replicas:
        urls = [gateway.url for gateway in replicas.gateways]
        async with balancing(nginx_config(folder, "nginx.conf", port, urls), port):
            yield Balancer(port), replicas


async def test_a_limit_is_exact_and_a_body_too_large_is_refused_as_by_the_gateway(
    tmp_path: Path,
) -> None:
    async with balanced(tmp_path, latency=0.2) as (balancer, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        for size in (1_500_000, 3_000_000):
            assert (await balancer.generate(key, "x" * size)).error == TOO_LARGE
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(300)))
        assert tally(got) == {200: 100, USED_UP: 200}
        assert replicas.sandbox.counts.asked == 100
        await replicas.assert_books(100)
        for gateway in replicas.gateways:
            assert sum(line.get("event") == "request" for line in gateway.lines()) > 50


async def test_a_call_whose_gateway_dies_is_not_sent_again(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=1.5) as (balancer, replicas):
        key = await replicas.key()
        url = f"http://127.0.0.1:{balancer.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=key) as client:
            asked = [asyncio.create_task(balancer.generate(key)) for _ in range(20)]
            official = [
                asyncio.create_task(client.images.generate(model="gpt-image-2", prompt=f"{number}"))
                for number in range(20)
            ]
            await until(lambda: replicas.sandbox.counts.asked == 40)
            await replicas.kill(replicas.gateways[0])
            answers = await asyncio.gather(*asked)
            ends = await asyncio.gather(*official, return_exceptions=True)
        assert {got.status for got in answers} == {200, 502}
        assert {got.headers.get("x-should-retry") for got in answers} == {None, "false"}
        failed = [end for end in ends if isinstance(end, openai.APIStatusError)]
        assert 0 < len(failed) < 20
        assert {(one.status_code, one.code) for one in failed} == {(502, "no_answer")}
        assert replicas.sandbox.counts.asked == 40
        # The next requests reach the gateway that lives, at once.
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(40)))
        assert tally(got) == {200: 40}
        assert replicas.sandbox.counts.asked == 80
        # Without any gateway nothing can have been bought: clients may send it again.
        await replicas.kill(replicas.gateways[0])
        for _ in range(3):
            refused = await balancer.generate(key)
            assert refused.error == (502, "server_error", "no_answer")
            assert "x-should-retry" not in refused.headers


@pytest.mark.exhaustive  # its short sister: tests/server/test_lifecycle.py
async def test_a_gateway_that_stops_for_long_gets_no_further_calls(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=LINGER_SECONDS + 5) as (balancer, replicas):
        key = await replicas.key()
        stopping = replicas.gateways[0]
        asked = [asyncio.create_task(balancer.generate(key)) for _ in range(10)]
        await until(lambda: replicas.sandbox.counts.asked == 10)
        stopping.send(signal.SIGTERM)
        await until(lambda: refuses(stopping.url), 30)
        replicas.sandbox.settings.latency = 0
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(40)))
        assert tally(got) == {200: 40}
        assert tally(await asyncio.gather(*asked)) == {200: 10}
        assert await stopping.ended() == 0
        assert replicas.sandbox.counts.asked == 50
