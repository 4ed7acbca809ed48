"""The examples of what stands in front: nginx with and without TLS, and Caddy."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.money import until
from tests.support.redis import free_port
from tests.support.rig import Got, Rig
from tests.support.tls import Issued
from tests.support.tools import DEPLOY, passes

START_SECONDS = 30.0

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")


def nginx_config(folder: Path, name: str, port: int, gateway: str = "") -> Path:
    """An example with a certificate that is there, on a port of its own, before this gateway."""
    text = (DEPLOY / name).read_text()
    text = text.replace("/etc/ssl/images.pem", str(folder / "tls.crt"))
    text = text.replace("/etc/ssl/images.key", str(folder / "tls.key"))
    text = re.sub(r"^( *listen) \d+( ssl)?;", rf"\1 127.0.0.1:{port}\2;", text, flags=re.MULTILINE)
    if gateway:
        text = re.sub(r"127\.0\.0\.1:808[12]", gateway, text)
    file = folder / name
    file.write_text(text)
    return file


def command(config: Path) -> list[str]:
    return ["nginx", "-p", str(config.parent), "-c", str(config), "-g", "daemon off;"]


@needs_nginx
@pytest.mark.parametrize("name", ["nginx.conf", "nginx-tls.conf"])
def test_nginx_takes_it(tmp_path: Path, name: str) -> None:
    Issued().write(tmp_path)
    said = passes(*command(nginx_config(tmp_path, name, free_port())), "-t")
    assert "[warn]" not in said


def test_both_pass_requests_on_in_the_same_way() -> None:
    plain, tls = (
        (DEPLOY / name).read_text().partition("client_max_body_size")[2]
        for name in ("nginx.conf", "nginx-tls.conf")
    )
    assert plain == tls


@asynccontextmanager
async def nginx(config: Path, port: int) -> AsyncIterator[None]:
    """nginx by this file, stopped when the block ends."""
    log = config.parent / "nginx.log"

    async def listens() -> bool:
        if process.returncode is not None:
            raise RuntimeError(log.read_text())
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command(config), stdout=output, stderr=output
        )
    try:
        await until(listens, START_SECONDS)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@needs_nginx
async def test_nginx_speaks_tls_for_the_gateways(tmp_path: Path, rig: Rig) -> None:
    issued, port, key = Issued(), free_port(), await rig.key()
    issued.write(tmp_path)
    place = rig.gateway.url.removeprefix("http://")
    async with nginx(nginx_config(tmp_path, "nginx-tls.conf", port, place), port):
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


@needs_caddy
@pytest.mark.parametrize("site", [None, "http://:8080", "images.example.com"])
def test_caddy_takes_it(tmp_path: Path, site: str | None) -> None:
    environ = {} if site is None else {"GATEWAY_SITE": site}
    arguments = ("--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile")
    passes("caddy", "validate", *arguments, cwd=tmp_path, **environ)
    adapted = passes("caddy", "adapt", *arguments, cwd=tmp_path, **environ)
    assert ('":443"' in adapted) == (site == "images.example.com")


@needs_caddy
def test_caddy_would_write_it_so(tmp_path: Path) -> None:
    file = tmp_path / "Caddyfile"
    shutil.copy(DEPLOY / "Caddyfile", file)
    os.chmod(file, 0o600)
    passes("caddy", "fmt", "--overwrite", file)
    assert file.read_text() == (DEPLOY / "Caddyfile").read_text()
