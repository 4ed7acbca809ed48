"""The example of nginx before several gateways, as it stands in deploy/."""

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
from tests.support.money import USED_UP, drawing, tally, until
from tests.support.nginx import nginx_config, running_nginx
from tests.support.raw import refuses
from tests.support.redis import free_port
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, Got

TOO_LARGE = (413, "invalid_request_error", "body_too_large")

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


class Balancer:
    """nginx by the example, on this port."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def generate(self, key: str, prompt: str | None = None) -> Got:
        """Ask for an image through it, over its own connection. Without a prompt it is one that
        nobody asked for before.
        """
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
        async with running_nginx(nginx_config(folder, "nginx.conf", port, urls), port):
            yield Balancer(port), replicas


async def test_a_limit_is_exact_through_it(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=0.2) as (balancer, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(300)))
        assert tally(got) == {200: 100, USED_UP: 200}
        assert replicas.sandbox.counts.asked == 100
        await replicas.assert_books("team", 100)
        for gateway in list(replicas.gateways):
            assert sum(line.get("event") == "request" for line in gateway.lines()) > 50


async def test_a_call_whose_gateway_dies_is_not_sent_again(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=1.5) as (balancer, replicas):
        key = await replicas.key()
        asked = [asyncio.create_task(balancer.generate(key)) for _ in range(40)]
        await until(lambda: replicas.sandbox.counts.asked == 40)
        await replicas.kill(replicas.gateways[0])
        answers = await asyncio.gather(*asked)
        assert {got.status for got in answers} == {200, 502}
        assert {got.headers.get("x-should-retry") for got in answers} == {None, "false"}
        assert replicas.sandbox.counts.asked == 40
        # Whoever comes now finds the gateway that lives, at once.
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(40)))
        assert tally(got) == {200: 40}
        assert replicas.sandbox.counts.asked == 80


async def test_an_official_client_does_not_buy_again_what_may_be_bought(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=1.5) as (balancer, replicas):
        client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{balancer.port}/v1", api_key=await replicas.key()
        )
        async with client:
            asked = [
                asyncio.create_task(client.images.generate(model="gpt-image-2", prompt=f"{number}"))
                for number in range(20)
            ]
            await until(lambda: replicas.sandbox.counts.asked == 20)
            await replicas.kill(replicas.gateways[0])
            ends = await asyncio.gather(*asked, return_exceptions=True)
            failed = [end for end in ends if isinstance(end, openai.APIStatusError)]
            assert 0 < len(failed) < 20
            assert {(one.status_code, one.code) for one in failed} == {(502, "no_answer")}
            assert replicas.sandbox.counts.asked == 20


async def test_where_no_gateway_was_reached_clients_may_ask_again(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=0) as (balancer, replicas):
        key = await replicas.key()
        for gateway in list(replicas.gateways):
            await replicas.kill(gateway)
        for _ in range(3):
            got = await balancer.generate(key)
            assert got.error == (502, "server_error", "no_answer")
            assert "x-should-retry" not in got.headers


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


async def test_a_body_that_is_too_large_is_refused_as_by_the_gateway(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=0) as (balancer, replicas):
        key = await replicas.key()
        for size in (1_500_000, 3_000_000):
            got = await balancer.generate(key, "x" * size)
            assert got.error == TOO_LARGE
        assert replicas.sandbox.counts.asked == 0
