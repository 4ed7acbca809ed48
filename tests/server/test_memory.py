"""Memory after a burst: allocated from the C library, freed, and given back by an idle process."""

import platform
import sys

import pytest

from tests.support.tools import passes

PROGRAM = """
import asyncio
from pathlib import Path
from gateway.server.memory import MemoryTrimmer, configure_malloc

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages // 256  # MiB

async def main():
    configure_malloc()
    base = resident()
    burst = [bytes(1_000_000) + b"x" for _ in range(100)]
    ends = [bytes(2_000) for _ in range(100)]
    del burst
    print(resident() - base)
    async with MemoryTrimmer(idle_seconds=0.05) as trimmer:
        EVENT
        for _ in range(100):
            await asyncio.sleep(0.05)
            if resident() - base < 10:
                break
    print(resident() - base)

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
@pytest.mark.parametrize(
    "event", ["request_ended(None, 1.0)", "late_purchase_ended(None, None)", None]
)
def test_an_idle_process_gives_back_what_a_burst_took(event: str | None) -> None:
    """Also without a request: connections that sent none take memory, too."""
    program = PROGRAM.replace("EVENT", f"trimmer.{event}" if event else "pass")
    kept, left = passes(sys.executable, "-c", program).split()
    assert int(kept) > 50  # for the next burst
    assert int(left) < 10
