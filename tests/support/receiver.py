"""A receiver of webhooks: a real server on loopback that keeps messages and answers as set."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PATH = "/services/T0PSECRET/B0PSECRET/hidden"


class Message:
    """One request."""

    def __init__(self, path: str, headers: CIMultiDictProxy[str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def json(self) -> dict[str, Any]:
        """The parsed body."""
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def is_signed(self) -> bool:
        """Whether it has a valid signature by `SECRET`."""
        key = base64.b64decode(SECRET.partition("_")[2])
        signed = b".".join(
            (self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body)
        )
        digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return f"v1,{digest}" in self.headers["webhook-signature"].split(" ")


class Receiver:
    """Answers 200 unless `statuses` holds others for the next requests."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.statuses: list[int] = []
        self.status = 200
        self.answer: str | bytes = "ok"
        self.headers: Mapping[str, str] = {}
        self.seconds = 0.0
        self.came = asyncio.Event()
        self.origin = ""

    @property
    def url(self) -> str:
        """The webhook's URL, whose path is a secret."""
        return self.origin + PATH

    async def until(self, count: int, seconds: float = 60) -> list[Message]:
        """Wait until `count` messages have come."""
        async with asyncio.timeout(seconds):
            while len(self.messages) < count:
                self.came.clear()
                await self.came.wait()
        return self.messages

    async def handle(self, request: web.BaseRequest) -> web.Response:
        message = Message(request.path, request.headers, await request.read())
        self.messages.append(message)
        self.came.set()
        await asyncio.sleep(self.seconds)
        status = self.statuses.pop(0) if self.statuses else self.status
        body = self.answer.encode() if isinstance(self.answer, str) else self.answer
        return web.Response(status=status, body=body, headers=self.headers)


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens until the block ends."""
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
