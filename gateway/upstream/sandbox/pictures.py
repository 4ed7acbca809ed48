"""The sandbox's pictures: drawn in a thread, cached, and served by signed URL.

A URL has everything that is needed to draw its picture again, so no picture must be stored. It has
only a digest of the prompt, and a signature over all other parts.
"""

import asyncio
import hmac
import math
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from gateway.upstream.sandbox.png import draw

Spec = tuple[bytes, int, int, int]
"""A picture: the prompt's digest, width, height, and its number among those of one request."""

DOT = draw(bytes(32), 1, 1)

_NAME = re.compile(r"([0-9a-f]{64})-([0-9]+)x([0-9]+)-([0-9]+)\.png")
_TIME = "%Y-%m-%dT%H:%M:%SZ"

_drawn = lru_cache(64)(draw)
"""The pictures used last: at most about 20 MB."""


class Pictures:
    """Draws pictures and signs their URLs. `clock` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    async def draw(self, spec: Spec) -> bytes:
        """Return the PNG of a picture."""
        return await asyncio.to_thread(_drawn, *spec)

    def link(self, spec: Spec, seconds: float) -> str:
        """Return a signed path that expires after `seconds`, rounded up to a whole second."""
        digest, width, height, seed = spec
        name = f"{digest.hex()}-{width}x{height}-{seed}.png"
        end = datetime.fromtimestamp(math.ceil(self._clock() + seconds), UTC).strftime(_TIME)
        return f"/files/{name}?se={end}&sig={self._signature(name, end)}"

    def open(self, name: str, end: str, signature: str) -> Spec | None:
        """Return the picture of a path, or None if it has expired or its signature is wrong."""
        if not hmac.compare_digest(signature.encode(), self._signature(name, end).encode()):
            return None
        match = _NAME.fullmatch(name)
        until = datetime.strptime(end, _TIME).replace(tzinfo=UTC).timestamp()
        if match is None or until <= self._clock():
            return None
        return bytes.fromhex(match[1]), int(match[2]), int(match[3]), int(match[4])

    def _signature(self, name: str, end: str) -> str:
        return hmac.digest(self._secret, f"{name} {end}".encode(), "sha256").hex()
