"""A real S3 server on a free port: moto's, in a process of its own."""

import asyncio
import secrets
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tests.support.redis import free_port
from tests.support.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from obstore.store import S3Store

START_SECONDS = 60.0

SECRET = "canary-secret-access-key"


class BucketServer:
    """The server, and a proxy in front of it that can be stopped. Clients use the proxy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: Process | None = None
        self.proxy = TcpProxy(self.port)

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which the gateway finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "canary-access-key-id",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    async def start(self) -> None:
        """Start it; return when it answers."""
        with (self._folder / "moto.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)),
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    await self.accept_keys(True)
                    return
                except aiohttp.ClientConnectionError:
                    if self._process.returncode is not None:
                        raise RuntimeError((self._folder / "moto.log").read_text()) from None
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Freeze it: it takes connections, and does not answer."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def accept_keys(self, all: bool) -> None:
        """Accept all access keys, or none."""
        await self._ask("POST", "moto-api/reset-auth", b"inf" if all else b"0")

    async def new_bucket(self, name: str = "") -> str:
        """Make a bucket of this or of any name, and return it."""
        name = name or f"bucket-{secrets.token_hex(4)}"
        await self._ask("PUT", name)
        return name

    def objects(self, bucket: str) -> "S3Store":
        """The objects of a bucket, for the test."""
        from obstore.store import S3Store

        return S3Store(
            bucket,
            endpoint=f"http://127.0.0.1:{self.port}",
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            client_options={"allow_http": True},
        )

    async def _ask(self, method: str, path: str, data: bytes = b"") -> None:
        url, head = f"http://127.0.0.1:{self.port}/{path}", {"Content-Type": "text/plain"}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.request(method, url, data=data, headers=head),
        ):
            pass


@asynccontextmanager
async def running_server(folder: Path) -> AsyncIterator[BucketServer]:
    """A server that answers, killed when the block ends."""
    server = BucketServer(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
