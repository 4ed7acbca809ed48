"""The `gateway` program in its own process: as an operator runs it, and serving with a client."""

import asyncio
import json
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, chdir
from pathlib import Path
from typing import Any

import aiohttp
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from gateway.cli.main import gateway
from tests.support.environment import CLEAN
from tests.support.rig import UPSTREAM_KEY, Client
from tests.support.steps import until
from tests.support.tools import ROOT

START_SECONDS = 60.0
"""How long a process may take to be ready on a busy machine."""

NOTHING: Mapping[str, str] = {}
_URLS = re.compile(r'(public|admin)[=":]+(https?://[^\s"]+)')


def invoke(
    folder: Path, arguments: Sequence[str], environ: Mapping[str, str], stdin: str | None = None
) -> Result:
    """Run a command in this process, in a folder and with no other settings than these.

    Logs are dropped meanwhile, as the program drops them.
    """
    cleared = {name: None for name in os.environ if name.startswith("GATEWAY_")}
    with chdir(folder), capture_logs():
        return CliRunner().invoke(gateway, arguments, input=stdin, env={**cleared, **environ})


class Program:
    """`python -m gateway ...` in a folder, with its output in files.

    `environ` takes names without their prefix: `SERVER_DRAIN_SECONDS="1"`. Ports are free ones
    unless it sets them, and a stop comes without notice.
    """

    module = "gateway"
    """The module that runs. A subclass or a test may run another one."""

    open_files = ""
    """The limit of its open files, hard and soft; "" for the limit of the tests."""

    environ: Mapping[str, str] = NOTHING
    """Further environment variables, with whole names."""

    def __init__(self, folder: Path, name: str = "", **environ: str) -> None:
        self.folder = folder
        self._out, self._err = folder / f"{name}stdout", folder / f"{name}stderr"
        variables = {
            "SERVER_PORT": "0",
            "SERVER_ADMIN_PORT": "0",
            "SERVER_DRAIN_NOTICE_SECONDS": "0",
            **environ,
        }
        self._environ = {
            **CLEAN,
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            **{f"GATEWAY_{option}": value for option, value in variables.items()},
        }
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The process that was started last."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    @property
    def out(self) -> str:
        """The standard output of the last start so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """The standard error of the last start so far."""
        return self._err.read_text()

    async def start(
        self,
        *arguments: str,
        stdin: int = DEVNULL,
        stderr: int | None = None,
        variables: Mapping[str, str] = NOTHING,
    ) -> None:
        """Start the program and do not wait.

        `stderr` None keeps standard error in `err`. `variables` adds to the environment, with whole
        names.
        """
        await self.kill()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            complaints = err.fileno() if stderr is None else stderr
            self._process = await self._launch(
                arguments, out.fileno(), complaints, stdin, variables
            )

    async def wait_for(self, done: Callable[[], bool]) -> None:
        """Wait until a condition holds. Raises RuntimeError with its log if the process ends."""
        async with asyncio.timeout(START_SECONDS):
            while not done():
                if self.process.returncode is not None:
                    raise RuntimeError(f"the gateway ended:\n{self.err}")
                await asyncio.sleep(0.02)

    async def printed(self, text: str) -> str:
        """Wait until its output includes `text`; returns the output."""
        await self.wait_for(lambda: text in self.out)
        return self.out

    async def listening(self) -> tuple[str, str]:
        """Wait until it has logged the URLs of both ports, in either format; returns them."""
        await self.wait_for(lambda: len(_URLS.findall(self.err)) >= 2)
        found = dict(_URLS.findall(self.err))
        return found["public"], found["admin"]

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self, timeout: float = 20) -> int:
        """Wait until it ends; returns its exit code."""
        return await asyncio.wait_for(self.process.wait(), timeout)

    async def terminate(self) -> int:
        """End it with SIGTERM, which drains; returns its exit code."""
        if self.process.returncode is None:
            self.send(signal.SIGTERM)
        return await self.process.wait()

    async def kill(self) -> None:
        """End it with SIGKILL if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; returns exit code, standard output and standard error."""
        process = await self._launch(arguments, PIPE, PIPE)
        out, err = await asyncio.wait_for(process.communicate(), START_SECONDS)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command as `run` does, but in this process, which takes less time."""
        done = await asyncio.to_thread(invoke, self.folder, arguments, self._environ)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    async def _launch(
        self,
        arguments: tuple[str, ...],
        out: int,
        err: int,
        stdin: int = DEVNULL,
        variables: Mapping[str, str] = NOTHING,
    ) -> Process:
        limited = ("sh", "-c", f'ulimit -n {self.open_files} && exec "$@"', "sh")
        return await asyncio.create_subprocess_exec(
            *(limited if self.open_files else ()),
            sys.executable,
            "-m",
            self.module,
            *arguments,
            cwd=self.folder,
            env={**self._environ, **self.environ, **variables},
            stdin=stdin,
            stdout=out,
            stderr=err,
        )


@asynccontextmanager
async def program(folder: Path, **environ: str) -> AsyncIterator[Program]:
    """A program that does not outlive the block."""
    made = Program(folder, **environ)
    try:
        yield made
    finally:
        await made.kill()


class GatewayProcess(Program, Client):
    """`python -m gateway serve` with a configuration file and a log of JSON, and its client."""

    def __init__(
        self, folder: Path, toml: str, session: aiohttp.ClientSession, environ: Mapping[str, str]
    ) -> None:
        name = secrets.token_hex(4)
        Program.__init__(self, folder, f"{name}.", LOG_FORMAT="json", **environ)
        Client.__init__(self, session)
        self.config = folder / f"{name}.toml"
        self.config.write_text(toml)

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines. A line that is not JSON, as of a traceback, is under `text`."""
        texts = self.err.rpartition("\n")[0].splitlines()  # the last line may be incomplete
        return [json.loads(text) if text.startswith("{") else {"text": text} for text in texts]

    async def serve(self, shift: str = "") -> None:
        """Start it, with a clock that is wrong by `shift` seconds, and wait until it is ready."""
        if shift:
            self.module = "tests.support.replica"
            await self.start(shift, str(self.config))
        else:
            await self.start("serve", "--config", str(self.config))
        self.url, self.admin_url = await self.listening()

        async def is_ready() -> bool:
            return (await self.admin("/readyz")).status == 200

        await until(is_ready, START_SECONDS)

    async def reread(self, toml: str | None = None) -> list[dict[str, Any]]:
        """Change its configuration, send SIGHUP, and return the lines that it logs about that."""
        if toml is not None:
            self.config.write_text(toml)
        known = len(self.lines())

        def about() -> list[dict[str, Any]]:
            events = ("configuration", "needs a restart")
            return [
                line for line in self.lines()[known:] if line.get("event", "").startswith(events)
            ]

        def has_ended() -> bool:
            ends = {"configuration read again", "configuration kept"}
            return not ends.isdisjoint(line["event"] for line in about())

        self.send(signal.SIGHUP)
        await self.wait_for(has_ended)
        return about()


@asynccontextmanager
async def running_process(
    folder: Path,
    upstream: str,
    toml: str = "",
    shift: str = "",
    open_files: str = "",
    module: str = "gateway",
    **environ: str,
) -> AsyncIterator[GatewayProcess]:
    """A ready gateway process with its data in `folder`, killed when the block ends.

    `upstream` is a URL. `environ` takes names without their prefix. `shift` is by how many seconds
    its clock is wrong. `open_files` is its limit of open files. `module` runs instead of
    `gateway`.
    """
    variables = {
        "UPSTREAM_BASE_URL": upstream,
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": f"sqlite:{folder / 'gateway.db'}",
        "KEYS_PEPPER_FILE": str(folder / "pepper"),
        **environ,
    }
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        gateway = GatewayProcess(folder, toml, session, variables)
        gateway.open_files = open_files
        gateway.module = module
        try:
            await gateway.serve(shift)
            yield gateway
        finally:
            await gateway.kill()
