"""The example configurations of balancers: nginx with and without TLS, HAProxy, and Caddy."""

import os
import shutil
from pathlib import Path

import aiohttp
import pytest

from tests.support.balancers import balancing, command, haproxy_config, nginx_config
from tests.support.raw import request_bytes, wire, with_trailer
from tests.support.redis import free_port
from tests.support.rig import Got, Rig
from tests.support.tls import Issued
from tests.support.tools import DEPLOY, passes

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is not installed"
)
needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")


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
    config = nginx_config(tmp_path, "nginx-tls.conf", port, [rig.gateway.url, rig.gateway.url])
    async with balancing(config, port):
        connector = aiohttp.TCPConnector(ssl=issued.client)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(
                f"https://127.0.0.1:{port}/v1/images/generations",
                headers={"Authorization": f"Bearer {key}"},
                json={"prompt": "apple"},
            ) as response,
        ):
            got = await Got.read(response)
        assert got.status == 200
        assert got.headers["Strict-Transport-Security"]


@needs_nginx
async def test_nginx_does_not_wait_for_the_body_of_a_refused_request(
    tmp_path: Path, rig: Rig
) -> None:
    port = free_port()
    config = nginx_config(tmp_path, "nginx.conf", port, [rig.gateway.url, rig.gateway.url])
    async with balancing(config, port), wire(f"http://127.0.0.1:{port}") as connection:
        await connection.send(request_bytes(body=b"{", length=1_000_000))
        answer = await connection.answer()
        assert answer.status == 401


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
    config = haproxy_config(tmp_path, port, [rig.gateway.url, rig.gateway.url])
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
