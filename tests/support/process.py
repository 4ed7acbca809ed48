"""A gateway in its own process, for tests that kill it or run several."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.rig import UPSTREAM_KEY, Got
from tests.support.tools import ROOT

START_SECONDS = 60.0
"""How long a process may take to be ready on a busy machine."""


class GatewayProcess:
    """`python -m gateway serve`, its log, and a client that asks it for images."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        config: Path,
        log: Path,
        session: aiohttp.ClientSession,
    ) -> None:
        self._process = process
        self.config = config
        self._log = log
        self._session = session
        self.url = ""
        self.admin_url = ""

    @property
    def pid(self) -> int:
        """The process' id."""
        return self._process.pid

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines. A line that is not JSON, as of a traceback, is under `text`."""
        texts = (
            self._log.read_text().rpartition("\n")[0].splitlines()
        )  # the last line may be incomplete
        return [json.loads(text) if text.startswith("{") else {"text": text} for text in texts]

    async def ready(self) -> None:
        """Wait until /readyz is 200. Raises RuntimeError with the log if the process ends."""
        async with asyncio.timeout(START_SECONDS):
            while not self.url:
                self._require_life()
                await asyncio.sleep(0.02)
                for line in self.lines():
                    if line.get("event") == "started":
                        self.url, self.admin_url = line["public"], line["admin"]
            while await self._status("/readyz") != 200:
                self._require_life()
                await asyncio.sleep(0.02)

    async def generate(
        self,
        key: str,
        prompt: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Got:
        """Ask for images. Without a prompt it is a new one."""
        async with self._session.post(
            f"{self.url}/v1/images/generations",
            headers={"Authorization": f"Bearer {key}", **(headers or {})},
            json={"prompt": prompt or secrets.token_hex(8), **fields},
        ) as response:
            return await Got.read(response)

    async def reread(self, toml: str | None = None) -> list[dict[str, Any]]:
        """Change its configuration, send SIGHUP, and return the lines that it logs about that."""
        if toml is not None:
            self.config.write_text(toml)
        known = len(self.lines())
        self.send(signal.SIGHUP)
        async with asyncio.timeout(START_SECONDS):
            while True:
                events = ("configuration", "needs a restart")
                lines = [each for each in self.lines()[known:] if "event" in each]
                about = [each for each in lines if each["event"].startswith(events)]
                ends = ("configuration read again", "configuration kept")
                if about and about[-1]["event"] in ends:
                    return about
                self._require_life()
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def ended(self, seconds: float = 20) -> int:
        """Wait until it ends; returns its exit code."""
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def models(self, key: str) -> Got:
        """Ask which models a key may use: an authentication that costs nothing."""
        headers = {"Authorization": f"Bearer {key}"}
        async with self._session.get(f"{self.url}/v1/models", headers=headers) as response:
            return await Got.read(response)

    async def admin(self, path: str) -> Got:
        """GET from the admin port."""
        async with self._session.get(self.admin_url + path) as response:
            return await Got.read(response)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """End it with SIGTERM, which drains; returns its exit code."""
        await self._end(signal.SIGTERM)
        return self._process.returncode or 0

    async def _end(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()

    async def _status(self, path: str) -> int:
        async with self._session.get(self.admin_url + path) as response:
            return response.status

    def _require_life(self) -> None:
        if self._process.returncode is not None:
            raise RuntimeError(f"the gateway ended:\n{self._log.read_text()}")


SERVE = ("-m", "gateway", "serve", "--config")
"""Python's arguments of `gateway serve`, without the configuration's path."""


@asynccontextmanager
async def running_process(
    folder: Path,
    upstream: str,
    toml: str = "",
    *,
    program: Sequence[str] = SERVE,
    **environ: str,
) -> AsyncIterator[GatewayProcess]:
    """A ready gateway process with its data in `folder`, killed when the block ends.

    `upstream` is a URL. `environ` takes names without their prefix, as
    `tests.support.rig.settings_for` does. `program` is Python's arguments before the path of the
    configuration.
    """
    name = secrets.token_hex(4)
    config, log = folder / f"{name}.toml", folder / f"{name}.log"
    config.write_text(toml)
    variables = {
        "SERVER_PORT": "0",
        "SERVER_ADMIN_PORT": "0",
        "UPSTREAM_BASE_URL": upstream,
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": f"sqlite:{folder / 'gateway.db'}",
        "KEYS_PEPPER_FILE": str(folder / "pepper"),
        "LOG_FORMAT": "json",
        **environ,
    }
    # The log shows faults of the interpreter; nothing else of this process' environment is used.
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *program,
            str(config),
            env=plain | {f"GATEWAY_{name}": value for name, value in variables.items()},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        gateway = GatewayProcess(process, config, log, session)
        try:
            await gateway.ready()
            yield gateway
        finally:
            await gateway.kill()
