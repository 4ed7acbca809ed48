"""The examples of balancers in deploy/: nginx with and without TLS, HAProxy, and Caddy.

They run on a test's ports and in its folder.
"""

import asyncio
import io
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.server.gateway import LINGER_SECONDS
from tests.support.balancers import (
    balancing,
    caddy_config,
    command,
    haproxy_config,
    needs_caddy,
    needs_haproxy,
    needs_nginx,
    nginx_config,
)
from tests.support.events import COMMENT, events_of
from tests.support.raw import ask, refuses, request_bytes, wire, with_trailer
from tests.support.redis import free_port
from tests.support.replicas import Replicas, running_replicas
from tests.support.rig import FLAT, Client, Got, Rig, running_rig
from tests.support.steps import drawing, metric, tally, until, until_asked
from tests.support.tls import Issued
from tests.support.tools import DEPLOY, passes

# -- one gateway --------------------------------------------------------------------------------


@needs_nginx
@pytest.mark.parametrize("name", ["nginx.conf", "nginx-tls.conf"])
def test_nginx_accepts_it(tmp_path: Path, name: str) -> None:
    Issued().write(tmp_path)
    said = passes(*command(nginx_config(tmp_path, name, free_port())), "-t")
    assert "[warn]" not in said


def test_both_pass_requests_on_in_the_same_way() -> None:
    plain, tls = (
        (DEPLOY / name).read_text().partition("client_max_body_size")[2]
        for name in ("nginx.conf", "nginx-tls.conf")
    )
    assert plain == tls


@needs_nginx
async def test_nginx_speaks_tls_for_the_gateways(tmp_path: Path, rig: Rig) -> None:
    issued, port, key = Issued(), free_port(), await rig.key()
    issued.write(tmp_path)
    config = nginx_config(tmp_path, "nginx-tls.conf", port, [rig.url, rig.url])
    async with balancing(config, port):
        connector = aiohttp.TCPConnector(ssl=issued.client)
        async with aiohttp.ClientSession(connector=connector) as session:
            got = await Client(session, f"https://127.0.0.1:{port}").generate(key)
        assert got.status == 200
        assert got.headers["Strict-Transport-Security"]


@needs_nginx
async def test_nginx_leaves_refusals_to_the_gateway(tmp_path: Path, rig: Rig) -> None:
    port, key = free_port(), await rig.key()
    url = f"http://127.0.0.1:{port}"
    config = nginx_config(tmp_path, "nginx.conf", port, [rig.url, rig.url])
    async with balancing(config, port):
        async with wire(url) as connection:  # it does not wait for the body
            await connection.send(request_bytes(body=b"{", length=1_000_000))
            assert (await connection.answer()).status == 401
        broken = request_bytes(key, headers="Transfer-Encoding: chunked\r\n", length=None)
        assert (await ask(url, broken)).error == (400, "invalid_http")
        for size in (1_500_000, 3_000_000):
            body = io.BytesIO(json.dumps({"prompt": "x" * size}).encode())
            headers = {"Content-Type": "application/json"}
            async with aiohttp.ClientSession() as session:  # nginx closes the connection
                got = await Client(session, url).post(key, headers=headers, data=body)
            assert got.error == (413, "invalid_request_error", "body_too_large")


@needs_haproxy
def test_haproxy_accepts_it(tmp_path: Path) -> None:
    assert passes("haproxy", "-c", "-f", DEPLOY / "haproxy.cfg").strip().endswith("is valid")


@needs_haproxy
async def test_no_trailer_of_a_client_reaches_another_ones_request(
    tmp_path: Path, rig: Rig
) -> None:
    """HAProxy passes trailers on, and sends the requests of all clients over few connections."""
    port, key = free_port(), await rig.key()
    url = f"http://127.0.0.1:{port}"
    config = haproxy_config(tmp_path, port, [rig.url, rig.url])
    own, shared = "option httpclose", "http-reuse always"
    assert own in config.read_text()
    config.write_text(config.read_text().replace(own, shared))
    models = request_bytes(key, method="GET", target="/v1/models", body=b"", length=None)
    async with balancing(config, port), wire(url) as attacker, wire(url) as client:
        for trailer in (b"Authorization: Bearer none", b"Cache-Control: no-store") * 5:
            await attacker.send(with_trailer(trailer))
            assert (await attacker.answer()).status == 401
            await client.send(models)
            assert (await client.answer()).status == 200
            await client.send(request_bytes(key))
            assert (await client.answer()).status == 200
    assert rig.sandbox.counts.asked == 1


@needs_caddy
@pytest.mark.parametrize("site", [None, "http://:8080", "images.example.com"])
def test_caddy_accepts_it(tmp_path: Path, site: str | None) -> None:
    environ = {} if site is None else {"BALANCER_SITE": site}
    arguments = ("--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile")
    passes("caddy", "validate", *arguments, cwd=tmp_path, **environ)
    adapted = passes("caddy", "adapt", *arguments, cwd=tmp_path, **environ)
    assert ('":443"' in adapted) == (site == "images.example.com")


@needs_caddy
def test_caddy_formats_it_the_same_way(tmp_path: Path) -> None:
    file = tmp_path / "Caddyfile"
    shutil.copy(DEPLOY / "Caddyfile", file)
    os.chmod(file, 0o600)
    passes("caddy", "fmt", "--overwrite", file)
    assert file.read_text() == (DEPLOY / "Caddyfile").read_text()


def config_of(balancer: str, folder: Path, port: int, rig: Rig) -> Path:
    """The balancer's example with the rig's gateway in both places."""
    gateways, admin_port = [rig.url, rig.url], int(rig.admin_url.rpartition(":")[2])
    if balancer == "nginx":
        return nginx_config(folder, "nginx.conf", port, gateways)
    if balancer == "haproxy":
        return haproxy_config(folder, port, gateways)
    return caddy_config(folder, port, gateways, admin_port)


NGINX = pytest.param("nginx", marks=needs_nginx)
HAPROXY = pytest.param("haproxy", marks=needs_haproxy)
CADDY = pytest.param("caddy", marks=needs_caddy)


@pytest.mark.parametrize("balancer", [NGINX, HAPROXY])
async def test_clients_of_a_full_gateway_may_try_again(tmp_path: Path, balancer: str) -> None:
    async with running_rig(tmp_path, SERVER_MAX_CONNECTIONS="1") as rig, wire(rig.url):
        port = free_port()
        async with balancing(config_of(balancer, tmp_path, port, rig), port):
            url, body = f"http://127.0.0.1:{port}", json.dumps({"prompt": "x" * 100_000}).encode()
            for _ in range(20):
                answer = await ask(url, request_bytes(await rig.key(), body=body))
                assert answer.error == (503, "overloaded")
                assert 1 <= int(answer.headers["retry-after"]) <= 5
                assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("balancer", [NGINX, HAPROXY, CADDY])
async def test_the_gateway_notices_a_client_that_leaves(
    tmp_path: Path, rig: Rig, balancer: str
) -> None:
    rig.sandbox.settings.latency = 60
    port, key = free_port(), await rig.key()
    client = Client(rig.session, f"http://127.0.0.1:{port}")
    async with balancing(config_of(balancer, tmp_path, port, rig), port):
        asked = asyncio.create_task(client.generate(key))
        await until_asked(rig, 1)
        asked.cancel()
        left = {"outcome": "client_closed", "team": "team"}

        async def is_noticed() -> bool:
            return await metric(rig, "gateway_requests_total", **left) == 1

        await until(is_noticed)
    await rig.sandbox.close()  # ends the purchase


@pytest.mark.parametrize("balancer", [NGINX, HAPROXY, CADDY])
async def test_a_stream_passes_as_it_comes(tmp_path: Path, rig: Rig, balancer: str) -> None:
    rig.sandbox.settings.latency = 60
    rig.gateway.public.beat_seconds = 0.05
    port, key = free_port(), await rig.key()
    async with (
        balancing(config_of(balancer, tmp_path, port, rig), port),
        rig.session.post(
            f"http://127.0.0.1:{port}/v1/images/generations",
            json={"prompt": "x", "stream": True},
            headers={"Authorization": f"Bearer {key}"},
        ) as response,
    ):
        assert response.headers["Cache-Control"] == "no-cache, no-transform"
        assert await response.content.readexactly(3 * len(COMMENT)) == 3 * COMMENT
        assert rig.sandbox.counts.delivered == 0
        await rig.sandbox.close()  # the upstream dies
        rest = await response.content.read()
    (event,) = events_of(rest)
    assert event["error"]["code"] == "upstream_cut"


# -- several gateways ---------------------------------------------------------------------------


class Balancer(Client):
    """A client of nginx that opens a connection for each request."""

    async def post(self, key: str, **kw: Any) -> Got:
        async with aiohttp.ClientSession() as session:
            return await Client(session, self.url).post(key, **kw)


@asynccontextmanager
async def balanced(folder: Path, latency: float) -> AsyncIterator[tuple[Balancer, Replicas]]:
    """nginx before two gateways over a Redis."""
    port = free_port()
    slow = drawing(latency=latency)
    async with running_replicas(folder, FLAT, slow, shifts=(0.0, 0.0)) as replicas:
        urls = [gateway.url for gateway in replicas.gateways]
        async with balancing(nginx_config(folder, "nginx.conf", port, urls), port):
            yield Balancer(replicas.gateways[0].session, f"http://127.0.0.1:{port}"), replicas


@needs_nginx
async def test_a_call_whose_gateway_dies_is_not_sent_again(tmp_path: Path) -> None:
    async with balanced(tmp_path, latency=1.5) as (balancer, replicas):
        key = await replicas.key()
        async with openai.AsyncOpenAI(base_url=f"{balancer.url}/v1", api_key=key) as client:
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


@needs_nginx
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
