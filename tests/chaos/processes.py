"""The processes of a run: gateways that die and start again, their clocks, and the sandbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.process import GatewayProcess, Program

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
"""The library that shifts a process' clock (Debian's package faketime)."""


class ClockFile:
    """A file from which programs read how far their clock is ahead."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """Change the clock of all running programs at once."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(self._path)  # whole: a program may read it at any moment

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program with this clock."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }


class Replica:
    """A gateway that is killed and started again. Each process has a name of its own."""

    def __init__(self, number: int, gateway: GatewayProcess) -> None:
        self.gateway = gateway
        self.lines: list[dict[str, Any]] = []
        self._number = number
        self._starts = 0
        self.is_up = False

    @property
    def name(self) -> str:
        """The name of the process that was started last."""
        return f"gateway {self._number}.{self._starts}"

    async def start(self) -> None:
        """Start it, again and again: it ends if its store does not answer at the start."""
        while True:
            self._starts += 1
            try:
                await self.gateway.serve()
                self.is_up = True
                return
            except RuntimeError:
                await asyncio.sleep(0.5)

    async def kill(self) -> None:
        """End it with SIGKILL, and keep its log."""
        self.is_up = False
        await self.gateway.kill()
        self.lines += self.gateway.lines()


class SandboxProgram(Program):
    """The sandbox of `tests.chaos.upstream`."""

    module = "tests.chaos.upstream"
    url = ""


@asynccontextmanager
async def recording_sandbox(
    folder: Path, seed: int, share: float, seconds: float
) -> AsyncIterator[SandboxProgram]:
    """A sandbox that writes into `seen`. See `tests.chaos.upstream` for the numbers."""
    sandbox = SandboxProgram(folder)
    try:
        await sandbox.start(str(seed), str(share), str(seconds), str(folder / "seen"))
        sandbox.url = (await sandbox.printed("http://")).strip()
        yield sandbox
    finally:
        await sandbox.kill()
