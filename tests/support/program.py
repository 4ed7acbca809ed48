"""The `gateway` program as an operator runs it: in a folder, with an environment."""

import asyncio
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.tools import ROOT

CLEAN = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
NOTHING: Mapping[str, str] = {}
_URLS = re.compile(r'(public|admin)[=":]+(http://[^\s"]+)')


class Program:
    """`python -m gateway ...` in a folder, with its output in files.

    `environ` takes names without their prefix: `SERVER_DRAIN_SECONDS="1"`. Ports are free ones
    unless it sets them.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        variables = {"SERVER_PORT": "0", "SERVER_ADMIN_PORT": "0", **environ}
        self._environ = {
            **CLEAN,
            "PYTHONPATH": str(ROOT),
            **{f"GATEWAY_{name}": value for name, value in variables.items()},
        }
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

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
        await self.stop()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            complaints = err.fileno() if stderr is None else stderr
            self._process = await self._launch(
                arguments, out.fileno(), complaints, stdin, variables
            )

    async def printed(self, text: str) -> str:
        """Wait until its output includes `text`; returns the output."""
        deadline = time.monotonic() + 20
        while text not in self.out:
            assert self._process is not None
            assert self._process.returncode is None, self.err
            assert time.monotonic() < deadline, self.err
            await asyncio.sleep(0.02)
        return self.out

    async def listening(self) -> tuple[str, str]:
        """Wait until it has logged the URLs of both ports, in either format; returns them."""
        deadline = time.monotonic() + 20
        while len(urls := _URLS.findall(self.err)) < 2:
            assert self._process is not None
            assert self._process.returncode is None, self.err
            assert time.monotonic() < deadline, self.err
            await asyncio.sleep(0.02)
        found = dict(urls)
        return found["public"], found["admin"]

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, timeout: float = 20) -> int:
        """Wait until it ends; returns its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), timeout)

    async def stop(self) -> None:
        """Kill it if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; returns exit code, standard output and standard error."""
        process = await self._launch(arguments, PIPE, PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def _launch(
        self,
        arguments: tuple[str, ...],
        out: int,
        err: int,
        stdin: int = DEVNULL,
        variables: Mapping[str, str] = NOTHING,
    ) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway",
            *arguments,
            cwd=self.folder,
            env={**self._environ, **variables},
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
        await made.stop()
