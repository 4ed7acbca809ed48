"""The simulated paid API, whose answers name the request for which they were drawn."""

import asyncio
import base64
from collections.abc import Mapping
from random import Random
from typing import Literal
from zlib import crc32

import msgspec

from gateway.config.settings import UpstreamSettings
from gateway.core.deadline import Deadline
from gateway.core.upstream_errors import UpstreamCut, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.port import NO_TRACE, NOTHING_WANTED, Reply, Wanted
from tests.simulation.events import Drawn, Ended, Event, Received
from tests.simulation.parts import Server
from tests.simulation.world import OUTSIDE

Kind = Literal["images", "refused", "failed", "edge", "cut", "late", "away"]

GOOD: Mapping[Kind, int] = {"images": 1}
USUAL: Mapping[Kind, int] = {
    "images": 80,
    "refused": 4,
    "failed": 4,
    "edge": 3,
    "cut": 3,
    "late": 3,
    "away": 3,
}
BAD: Mapping[Kind, int] = {**USUAL, "images": 20}
"""How often the upstream answers in which way."""


class SimUpstream:
    """The paid API. It draws what it received even if nobody waits for it any more.

    `generosity` decides which requests get more images than they ask for.
    """

    def __init__(
        self, server: Server, price: int, mood: Mapping[Kind, int], generosity: Random
    ) -> None:
        self._generosity = generosity
        self._server = server
        self._world = server.world
        self._rng = server.rng
        self._price = price
        self._kinds, self._weights = list(mood), list(mood.values())
        self.events: list[Event] = []
        self.at_work = 0

    async def generate(
        self,
        body: bytes,
        request_id: str,
        settings: UpstreamSettings,
        trace: Mapping[str, str] = NO_TRACE,
        wanted: Wanted = NOTHING_WANTED,
    ) -> Reply:
        rng = self._rng
        kind = rng.choices(self._kinds, self._weights)[0]
        if kind == "away":
            await asyncio.sleep(0.01)
            raise UpstreamUnreachable
        images = msgspec.json.decode(body)["n"]
        images += self._generosity.choices([0, 1, 7], [90, 6, 4])[0]
        self.events.append(Received(**self._times(), call=request_id))
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        draws = kind in ("images", "cut", "late") or (kind == "edge" and rng.random() < 0.5)
        slow = settings.timeout_seconds + 1 if kind == "late" else 0.0
        seconds = slow + rng.uniform(0.05, settings.timeout_seconds * 0.9)

        def draw() -> None:
            self.at_work -= 1
            if draws:
                cost = images * self._price
                drawn = Drawn(**self._times(), call=request_id, images=images, cost=cost)
                self.events.append(drawn)
            if kind != "late":
                self._world.call_later(0.01, answer, context=OUTSIDE)

        def answer() -> None:
            how = _HOW.get(kind, "unknown")
            self.events.append(Ended(**self._times(), call=request_id, how=how))
            if not reply.done():
                reply.set_result(_reply(kind, images, request_id))

        self.at_work += 1
        self._world.call_later(seconds, draw, context=OUTSIDE)
        try:
            async with Deadline(settings.timeout_seconds):  # as the real client does
                answered = await reply
        except TimeoutError:
            self.events.append(Ended(**self._times(), call=request_id, how="unknown"))
            raise UpstreamTimeout from None
        if answered is None:
            raise UpstreamCut
        return answered

    def _times(self) -> dict[str, float]:
        return {"at": self._world.time(), "clock": self._server.now()}


_HOW: Mapping[Kind, Literal["delivered", "refused", "unknown"]] = {
    "images": "delivered",
    "refused": "refused",
    "failed": "refused",
}


def picture_of(body: bytes) -> str:
    """Return the id of the request for which the images of this answer were drawn."""
    return base64.b64decode(msgspec.json.decode(body)["data"][0]["b64_json"]).decode()


def _error(status: int, code: str) -> Reply:
    return Reply(status, {}, msgspec.json.encode({"error": {"message": "no", "code": code}}))


_REFUSALS = (
    _error(400, "y"),
    _error(402, "y"),
    _error(403, "y"),
    _error(403, "moderation_blocked"),
    _error(429, "insufficient_quota"),
    _error(200, "moderation_blocked"),
)
"""Answers that cost nothing, each in its own way."""


def _reply(kind: Kind, images: int, request_id: str) -> Reply | None:
    match kind:
        case "images":
            data = [{"b64_json": base64.b64encode(request_id.encode()).decode()}] * images
            return Reply(200, {}, msgspec.json.encode({"created": 1, "data": data}))
        case "refused":
            return _REFUSALS[crc32(request_id.encode()) % len(_REFUSALS)]
        case "failed":
            return Reply(500, {}, b"{}")
        case "edge":
            return Reply(502, {}, b"<html>")
    return None
