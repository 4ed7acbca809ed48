"""Processes under measurement: started here, read through Linux's /proc, ended by their id.

Each logs one line of JSON with its URL when it has started, as the gateway does.
"""

import asyncio
import json
import os
import resource
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]

START_SECONDS = 30.0
STOP_SECONDS = 15.0

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
        lines = (self._proc / "status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peak) * 1024

    def forget_peak(self) -> None:
        """Reset the peak to the present use."""
        (self._proc / "clear_refs").write_text("5")


@asynccontextmanager
async def running(
    arguments: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """`python -m` with these arguments, its output in a file in `folder`, until the block ends.

    Raises RuntimeError with that output if it does not start.
    """
    log = folder / f"{arguments[0]}.log"
    plain = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *arguments),
            env=plain | dict(environ or {}),
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        yield Process(process.pid, await _url(process, log))
    finally:
        await _end(process)


async def _url(process: asyncio.subprocess.Process, log: Path) -> str:
    """Wait for the URL in its log."""
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            if (url := _told(log)) is not None:
                return url
            await asyncio.sleep(0.02)
    raise RuntimeError(f"it ended instead of starting:\n{_text(log)}")


def _told(log: Path) -> str | None:
    """The URL in the "started" line, None if it is not there yet."""
    for line in _text(log).splitlines():
        if '"started"' in line:
            return str(json.loads(line)["public"])
    return None


def _text(log: Path) -> str:
    return log.read_text()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


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


def serve(start: Coroutine[Any, Any, int]) -> None:
    """Be a server process: log the port that `start` returns, then serve until the end."""

    async def forever() -> None:
        port = await start
        started = {"event": "started", "public": f"http://127.0.0.1:{port}"}
        sys.stdout.write(json.dumps(started) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()

    run(forever())
