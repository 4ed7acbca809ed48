"""The sandbox in a process of its own. It writes what it did for each call to a file.

python -m tests.chaos.upstream SEED FAULTS SECONDS FILE

FAULTS is the share of calls with a random fault. A call takes up to SECONDS. It prints its URL.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TextIO

import click
import msgspec
from msgspec import Struct

from gateway.upstream.sandbox import Sandbox, UpstreamFault
from tests.support.steps import drawing

FAULTS = (
    *(UpstreamFault(kind="status", status=status) for status in (400, 429, 500, 503, 502)),
    UpstreamFault(kind="cut_before_headers"),
    UpstreamFault(kind="cut_in_body"),
    UpstreamFault(kind="not_json"),
    UpstreamFault(kind="hang"),
    UpstreamFault(kind="slow_body", after=0.3),
)
"""All but "fewer": then a client may get fewer images than it asked for."""


class Seen(Struct, frozen=True, kw_only=True):
    """One line of the file: a call arrived, or ended. `at` is in seconds since the epoch."""

    at: float
    call: str
    has_ended: bool
    images_drawn: int
    status: int
    delivered: bool


class RecordingSandbox(Sandbox):
    """A sandbox with random faults and latencies, which writes down each call."""

    def __init__(self, seed: int, share: float, seconds: float, lines: TextIO) -> None:
        super().__init__(drawing(api_key=None))
        self._rng = Random(seed)
        self._share = share
        self._seconds = seconds
        self._lines = lines

    def next_fault(self) -> UpstreamFault | None:
        """See `State`. The latency of a call is read right after its fault."""
        self.settings.latency = self._rng.uniform(0.0, self._seconds)
        return self._rng.choice(FAULTS) if self._rng.random() < self._share else None

    @contextmanager
    def call(self, images: int) -> Iterator[None]:
        """See `State`. The call is the request that arrived last: nothing was awaited since."""
        received = self.counts.requests[-1]

        def write(*, has_ended: bool) -> None:
            seen = Seen(
                at=time.time(),
                call=received.headers["x-request-id"],
                has_ended=has_ended,
                images_drawn=received.images_drawn,
                status=received.status,
                delivered=received.delivered,
            )
            self._lines.write(msgspec.json.encode(seen).decode() + "\n")

        write(has_ended=False)
        try:
            with super().call(images):
                yield
        finally:
            write(has_ended=True)


def read_seen(path: Path) -> list[Seen]:
    """Return the lines of the file."""
    return [msgspec.json.decode(line, type=Seen) for line in path.read_text().splitlines()]


async def _serve(sandbox: Sandbox) -> None:
    await sandbox.start()
    click.echo(sandbox.url)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until the process is killed."""
    seed, share, seconds, path = sys.argv[1:]
    with Path(path).open("w", buffering=1) as lines:
        sandbox = RecordingSandbox(int(seed), float(share), float(seconds), lines)
        asyncio.run(_serve(sandbox))


if __name__ == "__main__":
    main()
