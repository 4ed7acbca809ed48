"""A real Redis server on a free port, which a test can freeze or kill."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

START_SECONDS = 20.0

SETTINGS = {"save": "", "appendonly": "no", "maxmemory-policy": "noeviction"}
"""Settings of a server that neither persists nor evicts. A test may override them."""


class RedisServer:
    """One server. `settings` are options as in redis.conf."""

    def __init__(self, folder: Path, port: int, settings: dict[str, str]) -> None:
        self.folder = folder
        self.port = port
        self.settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its URL, with the first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process' id."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it on its port with its data on disk; return when it answers."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("redis-server is missing: install it (Debian's package redis-server)")
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "redis.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, *self.arguments(), stdout=log, stderr=log
            )
        async with asyncio.timeout(START_SECONDS):
            while not await self._answers():
                if self._process.returncode is not None:
                    raise RuntimeError((self.folder / "redis.log").read_text())
                await asyncio.sleep(0.02)

    def arguments(self) -> list[str]:
        """The arguments of its program."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            **self.settings,
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    async def stop(self) -> None:
        """Stop it as an operator does: it saves as its settings say. A dead one stays dead."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it with SIGKILL, even if it is frozen."""
        await self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Freeze it: commands wait in its sockets."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, with the commands that came meanwhile."""
        self._send(signal.SIGCONT)

    @asynccontextmanager
    async def client(self) -> AsyncIterator["Redis"]:
        """A client for the test, which bypasses the gateway."""
        client = Redis.from_url(self.url)
        try:
            yield client
        finally:
            await client.aclose()

    async def _answers(self) -> bool:
        try:
            async with self.client() as client:
                return bool(await client.ping())
        except (RedisError, OSError):
            return False

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()


_PORTS = count(11_000 + os.getpid() * 97 % 20_000)
"""Below the ports that the system assigns, and different for each process that runs tests."""


def free_port() -> int:
    """A free port, low enough that the second one of a cluster (10000 above) exists."""
    while True:
        port = next(_PORTS)
        try:
            for each in (port, port + 10_000):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port


@asynccontextmanager
async def running_redis(folder: Path, **settings: str) -> AsyncIterator[RedisServer]:
    """A server that answers, killed when the block ends.

    `settings` take redis.conf's names with underscores: `maxmemory_policy="noeviction"`.
    """
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    server = RedisServer(folder, free_port(), {**SETTINGS, **named})
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
