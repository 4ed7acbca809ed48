"""Processes under measurement: started here and read through Linux's /proc.

Each logs one line of JSON with its URL when it has started, as the gateway does.
"""

import asyncio
import json
import os
import re
import resource
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from tests.support.process import Program

_URL = re.compile(r'"public": ?"(http://[^"]+)"')
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A running server: its URL and its use of CPU and memory."""

    def __init__(self, pid: int, url: str) -> None:
        self.url = url
        self.port = urlsplit(url).port or 80
        self._proc = Path(f"/proc/{pid}")

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far, in user and kernel mode."""
        # The name in the second field may hold blanks; everything after its bracket is numbers.
        fields = (self._proc / "stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def peak_bytes(self) -> int:
        """Its peak memory since `forget_peak`."""
        return self._bytes("VmHWM")

    @property
    def resident_bytes(self) -> int:
        """Its present memory."""
        return self._bytes("VmRSS")

    def _bytes(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        (size,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(size) * 1024

    def forget_peak(self) -> None:
        """Reset the peak to the present use."""
        (self._proc / "clear_refs").write_text("5")


@asynccontextmanager
async def running(
    folder: Path, module: str, *arguments: str, **environ: str
) -> AsyncIterator[Process]:
    """`python -m` with these arguments, its output in files in `folder`, until the block ends.

    `environ` is as `Program` takes it. Raises RuntimeError with its log if it does not start.
    """
    program = Program(folder, f"{module}.", **environ)
    program.module = module
    try:
        await program.start(*arguments)
        await program.wait_for(lambda: bool(_URL.search(program.out + program.err)))
        (url,) = _URL.findall(program.out + program.err)
        yield Process(program.pid, url)
    finally:
        await program.terminate()


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: every connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(work: Coroutine[Any, Any, Any]) -> None:
    """Run `work` on the gateway's event loop, uvloop where it is installed."""
    allow_many_files()
    try:
        import uvloop
    except ImportError:  # not on every platform
        asyncio.run(work)
        return
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        runner.run(work)


async def listen(app: web.Application) -> int:
    """Serve the application on a free port, which is returned."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4_096).start()
    return int(runner.addresses[0][1])


def serve(start: Coroutine[Any, Any, int]) -> None:
    """Be a server process: log the port that `start` returns, then serve until the end."""

    async def forever() -> None:
        port = await start
        started = {"event": "started", "public": f"http://127.0.0.1:{port}"}
        sys.stdout.write(json.dumps(started) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    run(forever())
