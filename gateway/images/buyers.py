"""Which purchase bought a picture: noted when it is bought, found by the hash of its bytes.

The purchase path hands over each answer; its pictures are hashed in a thread, one answer at a time,
and written to the store a moment later. All of it may be lost in a crash or where too much waits:
what was spent is in the ledger, not here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import structlog
from msgspec.structs import replace

from gateway.config.live import CurrentSettings
from gateway.core.periods import DAY_SECONDS
from gateway.core.picture_spans import picture_spans
from gateway.core.tasks import WriteBehind
from gateway.images import encoding
from gateway.quota.steps import Reserve
from gateway.reporting.store import PictureBuyer, PictureStore
from gateway.telemetry.observer import Observer

log = structlog.get_logger(source="images")

MOST_UNWRITTEN = 10_000
"""Most records that wait while the store is away."""

MOST_AT_ONCE = 500
"""Records in one write, to bound how long the store is busy."""

MOST_WAITING_BYTES = 128 * 1024 * 1024
"""Most bytes of answers that wait to be hashed. The cache holds most of them anyway."""

_URI_CHARS = 64
"""A `data:` URI begins with its type and a comma, and the type of a picture is short."""


def pictures_in(body: bytes) -> list[tuple[int, int, bytes]]:
    """Return the pictures in an answer: start and end of the base64 of each, and its bytes.

    Base64 that `gateway.images.encoding` would write in another way is left out. Run it in a
    thread.
    """
    found = []
    for start, end in picture_spans(body):
        start = body.find(b",", start, min(end, start + _URI_CHARS)) + 1 or start
        data = encoding.decode(memoryview(body)[start:end])
        if data:
            found.append((start, end, data))
    return found


@dataclass(eq=False)
class PictureBuyers(WriteBehind[Sequence[PictureBuyer]], Observer):
    """The buffer in front of `PictureStore.write`. `wall` returns the time."""

    name = "picture buyers"
    store: PictureStore
    settings: CurrentSettings
    wall: Callable[[], float]
    most_waiting: int = MOST_WAITING_BYTES
    _bodies: deque[tuple[PictureBuyer, bytes]] = field(default_factory=deque)
    _waiting_bytes: int = 0
    _records: list[PictureBuyer] = field(default_factory=list)
    _hashing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def pictures_bought(
        self, reservation: Reserve, request_id: str, cost: int, body: bytes
    ) -> None:
        """Take over an answer. It is hashed before the next write."""
        if not self.settings().images.enabled:
            return
        busy = self._waiting_bytes + len(body) > self.most_waiting
        if busy or len(self._records) >= MOST_UNWRITTEN:
            log.warning("buyer of a picture not noted: too much waits", id=request_id)
            return
        buyer = PictureBuyer(
            sha256="",
            purchase=reservation.id,
            request_id=request_id,
            at=self.wall(),
            team=reservation.team,
            key=reservation.key,
            model=reservation.model,
            cost=cost,
        )
        self._bodies.append((buyer, body))
        self._waiting_bytes += len(body)

    async def flush(self) -> None:
        """Hash what waits, and write everything. Raises StoreUnavailable."""
        async with self._hashing:
            while self._bodies:
                buyer, body = self._bodies[0]
                digests = await asyncio.to_thread(partial(_digests, body))
                self._records += [replace(buyer, sha256=digest) for digest in digests]
                self._bodies.popleft()
                self._waiting_bytes -= len(body)
        await super().flush()

    def collect(self) -> Sequence[PictureBuyer] | None:
        """The records that are not written yet."""
        batch, self._records = self._records[:MOST_AT_ONCE], self._records[MOST_AT_ONCE:]
        return batch or None

    async def write(self, batch: Sequence[PictureBuyer]) -> None:
        """Write the batch; the store has each record once."""
        days = self.settings().usage.keep_days
        await self.store.write(batch, days * DAY_SECONDS if days else None)


def _digests(body: bytes) -> list[str]:
    """Return the SHA-256 of each picture in an answer, as hexadecimal digits, each once."""
    return [*dict.fromkeys(sha256(data).hexdigest() for _, _, data in pictures_in(body))]
