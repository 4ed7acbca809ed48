"""The example of nginx before several gateways, as it stands in deploy/."""

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import openai
import pytest

from gateway.model import Limits
from tests.support.money import USED_UP, drawing, tally, until
from tests.support.process import GatewayProcess
from tests.support.redis import free_port, running_redis
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, Got

EXAMPLE = Path(__file__).parents[2] / "deploy" / "nginx.conf"

START_SECONDS = 10.0

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


class Balancer:
    """nginx by the example, with these gateways in the places of its two."""

    def __init__(self, folder: Path, gateways: list[GatewayProcess]) -> None:
        self.port = free_port()
        text = EXAMPLE.read_text()
        for place, gateway in zip(("127.0.0.1:8081", "127.0.0.1:8082"), gateways, strict=True):
            assert place in text
            text = text.replace(place, gateway.url.removeprefix("http://"))
        listen = rf"\1 127.0.0.1:{self.port};"
        text = re.sub(r"^( *listen) 8080;", listen, text, flags=re.MULTILINE)
        self._config = folder / "nginx.conf"
        self._config.write_text(text)
        self._log = folder / "nginx.log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Balancer":
        arguments = ["-p", str(self._config.parent), "-c", str(self._config), "-g", "daemon off;"]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                "nginx", *arguments, stdout=log, stderr=log
            )
        await until(self._answers, START_SECONDS)
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()  # at a kill its workers would live on
        await self._process.wait()

    async def generate(self, key: str) -> Got:
        """Ask for an image through it that nobody asked for before, over its own connection."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{self.port}/v1/images/generations",
                headers={"Authorization": f"Bearer {key}"},
                json={"prompt": secrets.token_hex(8)},
            ) as response,
        ):
            return await Got.read(response)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(self._log.read_text())
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def balanced(folder: Path, latency: float) -> AsyncIterator[tuple[Balancer, Replicas]]:
    """nginx before two gateways over a Redis."""
    async with (
        running_redis(folder / "redis") as redis,
        running_replicas(folder, redis.url, FLAT, drawing(latency=latency)) as replicas,
        Balancer(folder, replicas.gateways[:2]) as balancer,
    ):
        yield balancer, replicas


async def test_a_limit_is_exact_through_it(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=0.2) as (balancer, replicas):
        key = await replicas.key(limits=Limits(images_per_day=100))
        got = await asyncio.gather(*(balancer.generate(key) for _ in range(300)))
        assert tally(got) == {200: 100, USED_UP: 200}
        assert replicas.sandbox.counts.asked == 100
        await replicas.assert_books("team", 100)
        for gateway in replicas.gateways[:2]:
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
        for gateway in replicas.gateways[:2]:
            await replicas.kill(gateway)
        for _ in range(3):
            got = await balancer.generate(key)
            assert got.error == (502, "server_error", "no_answer")
            assert "x-should-retry" not in got.headers
