"""The generations route: one call from its arrival to its end, with or without a fault.

- A refused request costs nothing. For a valid one the latency passes first. Then the images are
  drawn, and cost money.
- A client that hangs up changes nothing: the images are drawn and counted all the same.
"""

import asyncio
import base64
import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

from aiohttp import web
from msgspec import json

from gateway.upstream.sandbox.counts import Received
from gateway.upstream.sandbox.faults import UpstreamFault
from gateway.upstream.sandbox.pictures import DOT, Pictures, picture_spec
from gateway.upstream.sandbox.requests import BadRequest, ImageCall, read_call
from gateway.upstream.sandbox.responses import (
    cut,
    cut_in_body,
    error_response,
    hang,
    json_response,
    page_response,
    send_bomb,
    send_huge,
    send_slowly,
    send_whole,
    status_response,
    text_response,
)
from gateway.upstream.sandbox.state import SandboxSettings, State

SQUARE_TOKENS = {"low": 196, "medium": 1_756, "high": 7_024}
"""Tokens of an image of 1024x1024, by quality. At $30 a million they cost a little less than such
an image in the price table."""

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
    """Handles generation requests. `clock` returns seconds since the epoch."""

    def __init__(self, state: State, pictures: Pictures, clock: Callable[[], float]) -> None:
        self._state = state
        self._pictures = pictures
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or apply the next fault to it."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._state.counts.arrived(Received(headers, body, time.monotonic()))
        try:
            check_key(self._state, headers.get("authorization", ""))
            generation = read_call(body)
        except BadRequest as error:
            return error.response
        with self._state.counts.call(generation.n), self._running():
            return await self._call(request, generation, self._state.next_fault())

    async def cancel(self) -> None:
        """End all calls in flight, also those without a client."""
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
        self, request: web.Request, generation: ImageCall, fault: UpstreamFault | None
    ) -> web.StreamResponse:
        settings = copy(self._state.settings)
        await asyncio.sleep(settings.latency)
        images = fault.images if fault is not None and fault.kind == "fewer" else generation.n
        if fault is None or fault.costs:
            self._state.counts.images_drawn += images
        if fault is not None and (response := await _without_images(request, fault)) is not None:
            return response
        origin = f"{request.scheme}://{request.host}"
        body = await self._body(generation, images, settings, origin)
        response, whole = await _deliver(request, body, fault)
        if whole:
            self._state.counts.answered(images)
        return response

    async def _body(
        self, generation: ImageCall, images: int, settings: SandboxSettings, origin: str
    ) -> bytes:
        """Return the JSON with so many images. `origin` starts their URLs."""
        data = []
        for seed in range(images):
            spec = picture_spec(generation.prompt, generation.width, generation.height, seed)
            image = {}
            if settings.answer != "url":
                png = await self._pictures.draw(spec) if settings.picture == "drawn" else DOT
                image["b64_json"] = base64.b64encode(png).decode()
            if settings.answer != "b64_json":
                image["url"] = origin + self._pictures.link(spec, settings.url_ttl)
            data.append(image)
        return json.encode(
            {
                "created": int(self._clock()),
                "background": generation.background,
                "data": data,
                "output_format": generation.output_format,
                "quality": generation.quality,
                "size": f"{generation.width}x{generation.height}",
                "usage": _usage(generation, images),
            }
        )


def check_key(state: State, authorization: str) -> None:
    """Raise BadRequest unless the Authorization header has a valid key."""
    if not authorization:
        message = "You didn't provide an API key: send it in an Authorization header."
        raise BadRequest(message, None, "invalid_api_key", status=401)
    if not state.knows(authorization):
        raise BadRequest("Incorrect API key provided.", None, "invalid_api_key", status=401)


def _usage(generation: ImageCall, images: int) -> dict[str, Any]:
    """Plausible tokens: a quarter of the prompt's bytes, and by the square of the shorter edge.

    Both cost less than such an image in a price table with the same prices.
    """
    text = max(1, len(generation.prompt.encode()) // 4)
    edge = min(generation.width, generation.height)
    output = images * (SQUARE_TOKENS[generation.quality] * edge * edge // 1024**2)
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
        "total_tokens": text + output,
    }


async def _without_images(request: web.Request, fault: UpstreamFault) -> web.StreamResponse | None:
    """Respond without images, if the fault says so; else return None."""
    match fault.kind:
        case "cut_before_headers":
            return cut(request)
        case "hang":
            return await hang(request)
        case "huge":
            return await send_huge(request, fault.bytes)
        case "gzip_bomb":
            return await send_bomb(request, fault.bytes)
        case "status":
            return status_response(fault.status, fault.body, fault.headers)
        case "not_json":
            return page_response(200, "All is well")
        case "no_image":
            return json_response(200, {"created": 0, "data": []})
        case "empty_image":
            return json_response(200, {"created": 0, "data": [{"b64_json": None}]})
        case "echo_key":
            message = f"Rejected: {request.headers['Authorization']}"
            return error_response(400, message, "invalid_request_error", "rejected")
    return None


async def _deliver(
    request: web.Request, body: bytes, fault: UpstreamFault | None
) -> tuple[web.StreamResponse, bool]:
    """Send the images. Also returns whether the response went out whole."""
    kind = fault.kind if fault else None
    if kind == "cut_in_body":
        return await cut_in_body(request, body), False
    if kind == "slow_body" and fault:
        return await send_slowly(request, body, fault.after)
    if kind == "gzip":
        body = await asyncio.to_thread(gzip.compress, body, 1)
    response = text_response(200, body)
    if kind == "gzip":
        response.headers["Content-Encoding"] = "gzip"
    if kind == "set_cookie":
        response.headers.update(_JUNK)
    return response, await send_whole(request, response)
