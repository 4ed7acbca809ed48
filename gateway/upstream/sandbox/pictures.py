"""The sandbox's pictures: drawn in a thread, kept for a while, and handed out by URL."""

import asyncio
import secrets
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TypeVar

from gateway.upstream.png import draw, draw_digest, prompt_digest
from gateway.upstream.sandbox.requests import Asked

KEPT = 256
"""Pictures and links kept: enough for tests and for looking at what was just drawn."""

DOT = draw("dot", 1, 1)

_Spec = tuple[bytes, int, int, int]

K = TypeVar("K")
V = TypeVar("V")


class Pictures:
    """Draws, and remembers what it drew. Prompts are known by their digests alone."""

    def __init__(self, url_ttl: float) -> None:
        self._url_ttl = url_ttl
        self._drawn: OrderedDict[_Spec, bytes] = OrderedDict()
        self._links: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    async def draw(self, asked: Asked, seed: int) -> bytes:
        """The PNG of image `seed` of a request."""
        spec = (prompt_digest(asked.prompt), *asked.edges, seed)
        if spec not in self._drawn:
            _keep(self._drawn, spec, await asyncio.to_thread(draw_digest, *spec))
        return self._drawn[spec]

    def link(self, png: bytes) -> str:
        """A path with a query that says until when it works (ISO 8601), as signed URLs do."""
        name, expires = secrets.token_hex(12), time.time() + self._url_ttl
        _keep(self._links, name, (png, expires))
        end = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"/files/{name}.png?se={end}&sig={secrets.token_hex(8)}"

    def open(self, name: str) -> bytes | None:
        """The picture of a link; None where the link's time is over or there is none."""
        png, expires = self._links.get(name.removesuffix(".png"), (b"", 0.0))
        return png if int(expires) > time.time() else None


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > KEPT:
        kept.popitem(last=False)
