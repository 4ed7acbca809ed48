"""The route that sells: one call from its arrival to its end, good or bad.

- What is refused costs nothing. Then the latency passes, whatever comes of it, and then the
  images are drawn: from that moment they cost money.
- A client that hangs up changes nothing: the images are drawn and counted all the same.
"""

import asyncio
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from aiohttp import web

from gateway.upstream.sandbox.answers import answer_body
from gateway.upstream.sandbox.counts import Received
from gateway.upstream.sandbox.errors import Refused, error, html_reply, json_reply, status_reply
from gateway.upstream.sandbox.faults import Fault
from gateway.upstream.sandbox.pictures import Pictures
from gateway.upstream.sandbox.replies import (
    Reply,
    cut,
    cut_in_body,
    hang,
    send_bomb,
    send_huge,
    send_slowly,
    send_whole,
)
from gateway.upstream.sandbox.requests import Asked, read_asked
from gateway.upstream.sandbox.state import State

_JUNK = {
    "Set-Cookie": "session=upstream; Path=/; HttpOnly",
    "x-ratelimit-limit-images": "5",
    "x-ratelimit-remaining-images": "3",
    "x-ratelimit-reset-images": "12s",
    "x-request-id": "req_upstream",
    "openai-organization": "org-upstream",
    "Keep-Alive": "timeout=5",
    "Proxy-Authenticate": "Basic",
    "Trailer": "X-Checksum",
    "Via": "1.1 edge",
    "Alt-Svc": 'h3=":443"',
}


class Generations:
    """Handles generation requests. `clock` gives seconds since the epoch."""

    def __init__(self, state: State, pictures: Pictures, clock: Callable[[], float]) -> None:
        self._state = state
        self._pictures = pictures
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or do what the next fault says."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._state.counts.arrived(Received(headers, body, time.monotonic()))
        try:
            check_key(self._state, headers.get("authorization", ""))
            asked = read_asked(body)
        except Refused as refused:
            return refused.reply.response
        with self._state.counts.call(asked.n), self._running():
            return await self._call(request, asked, self._state.next_fault())

    async def cancel(self) -> None:
        """End all calls under way, those without a client too."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _running(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a handler runs in a task)
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def _call(
        self, request: web.Request, asked: Asked, fault: Fault | None
    ) -> web.StreamResponse:
        settings = copy(self._state.settings)
        await asyncio.sleep(settings.latency)
        images = fault.images if fault is not None and fault.kind == "fewer" else asked.n
        if fault is None or fault.costs:
            self._state.counts.images_drawn += images
        if fault is not None and (response := await _go_wrong(request, fault)) is not None:
            return response
        origin = f"{request.scheme}://{request.host}"
        now = int(self._clock())
        body = await answer_body(asked, images, settings, self._pictures, origin, now)
        response, whole = await _deliver(request, Reply(body), fault)
        if whole:
            self._state.counts.answered(images)
        return response


def check_key(state: State, authorization: str) -> None:
    """Raise Refused for an Authorization header without a key that works."""
    if not authorization:
        message = "You didn't provide an API key: send it in an Authorization header."
        raise Refused(message, None, "invalid_api_key", status=401)
    if not state.knows(authorization):
        raise Refused("Incorrect API key provided.", None, "invalid_api_key", status=401)


async def _go_wrong(request: web.Request, fault: Fault) -> web.StreamResponse | None:
    """What is answered instead of images; None where there are images."""
    match fault.kind:
        case "cut_before_headers":
            return cut(request)
        case "hang":
            return await hang(request)
        case "huge":
            return await send_huge(request, fault.bytes)
        case "gzip_bomb":
            return await send_bomb(request, fault.bytes)
    reply = _reply_instead(request, fault)
    return None if reply is None else reply.response


def _reply_instead(request: web.Request, fault: Fault) -> Reply | None:
    match fault.kind:
        case "status":
            return status_reply(fault.status, fault.body, fault.headers)
        case "not_json":
            return html_reply(200, "All is well")
        case "no_image":
            return json_reply(200, {"created": 0, "data": []})
        case "empty_image":
            return json_reply(200, {"created": 0, "data": [{"b64_json": None}]})
        case "echo_key":
            message = f"Rejected: {request.headers['Authorization']}"
            return json_reply(400, error(message, "invalid_request_error", "rejected"))
    return None


async def _deliver(
    request: web.Request, reply: Reply, fault: Fault | None
) -> tuple[web.StreamResponse, bool]:
    """Send an answer with images. Tells whether it went out whole."""
    match fault:
        case Fault(kind="cut_in_body"):
            return await cut_in_body(request, reply), False
        case Fault(kind="slow_body", after=seconds):
            return await send_slowly(request, reply, seconds)
        case Fault(kind="gzip"):
            body = await asyncio.to_thread(gzip.compress, reply.body, 1)
            reply = Reply(body).with_headers({"Content-Encoding": "gzip"})
        case Fault(kind="set_cookie"):
            reply = reply.with_headers(_JUNK)
    return await send_whole(request, reply)
