"""Driving a load with wrk: a script for the load, and wrk's own figures.

wrk takes little CPU, which on a small machine leaves more for the servers under measurement.
"""

import asyncio
import json
import shutil
from pathlib import Path

from tests.benchmarks.driver import keep_asking
from tests.benchmarks.load import DIGITS, Load, Taken

WRK = shutil.which("wrk")

HINT = "wrk is not installed, so a driver in Python takes its place (Debian: apt-get install wrk)."

_SCRIPT = """
local before, after = {%(before)s}, {%(after)s}
local index, keys, first, distinct = 0, %(keys)d, %(first)d, %(distinct)d

function request()
  local key = index %% keys
  local number = index
  if distinct > 0 then number = math.floor(index / keys) %% distinct end
  index = index + 1
  return before[key + 1] .. string.format("%%0%(digits)dd", first + number) .. after[key + 1]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%%d,"failed":%%d,"p50":%%f,"p99":%%f}\\n',
    summary.requests, e.connect + e.read + e.write + e.timeout + e.status,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


async def drive(port: int, load: Load, connections: int, seconds: float, folder: Path) -> Taken:
    """Send requests for `seconds` on so many connections. Raises RuntimeError if wrk fails."""
    if WRK is None:
        return await keep_asking(port, load, connections, seconds)
    script = folder / "load.lua"
    script.write_text(_script(load))
    process = await asyncio.create_subprocess_exec(
        *(WRK, "--threads", "1", "--connections", str(connections), "--timeout", "60s"),
        *("--duration", f"{max(1, round(seconds))}s", "--script", str(script)),
        f"http://127.0.0.1:{port}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    lines = [line for line in output.decode().splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"wrk failed:\n{output.decode()}")
    return Taken(**json.loads(lines[0]))


def _script(load: Load) -> str:
    ends = load.ends()
    return _SCRIPT % {
        "before": ",".join(_literal(before) for before, _ in ends),
        "after": ",".join(_literal(after) for _, after in ends),
        "keys": len(ends),
        "first": load.first,
        "distinct": load.distinct,
        "digits": DIGITS,
    }


def _literal(text: bytes) -> str:
    """A text as a Lua literal: JSON's escapes for quotes and line ends are Lua's too."""
    return json.dumps(text.decode("ascii"))
