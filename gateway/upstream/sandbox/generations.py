"""The generations route: one call from its arrival to its end, with or without a fault.

- A refused request costs nothing. For a valid one the latency passes first. Then the images are
  drawn, and cost money.
- A client that hangs up changes nothing: the images are drawn and counted all the same.
"""

import asyncio
import base64
import gzip
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiohttp import web
from msgspec import json

from gateway.upstream.sandbox.pictures import DOT, Pictures
from gateway.upstream.sandbox.requests import ImageCall, read_call, refusal
from gateway.upstream.sandbox.responses import (
    bomb,
    cut,
    error_body,
    half,
    hang,
    huge,
    page,
    plain_response,
    send,
    slowly,
    status_response,
    whole,
)
from gateway.upstream.sandbox.state import Received, SandboxSettings, State, UpstreamFault

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


@dataclass(eq=False)
class Generations:
    """Handles generation requests. `clock` returns seconds since the epoch."""

    state: State
    pictures: Pictures
    clock: Callable[[], float]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or apply the next fault to it. Raises a refusal."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        counts = self.state.counts
        counts.asked += 1
        received = Received(headers, body, time.monotonic())
        counts.requests.append(received)
        check_key(self.state, headers.get("authorization", ""))
        call = read_call(body)
        with self.state.call(call.n):
            try:
                response = await self._answer(request, call, self.state.next_fault(), received)
                received.status = response.status
                return response
            finally:
                received.ended_at = time.monotonic()

    async def _answer(
        self,
        request: web.Request,
        call: ImageCall,
        fault: UpstreamFault | None,
        received: Received,
    ) -> web.StreamResponse:
        settings, counts = copy(self.state.settings), self.state.counts
        await asyncio.sleep(settings.latency)
        images = fault.images if fault is not None and fault.kind == "fewer" else call.n
        if fault is None or fault.costs:
            counts.images_drawn += images
            received.images_drawn = images
        if fault is not None and (response := await _without_images(request, fault)) is not None:
            return response
        origin = f"{request.scheme}://{request.host}"
        body = await self._body(call, images, settings, origin)
        response, received.delivered = await _deliver(request, body, fault)
        if received.delivered:
            counts.delivered += 1
            counts.images_delivered += images
        return response

    async def _body(
        self, call: ImageCall, images: int, settings: SandboxSettings, origin: str
    ) -> bytes:
        """Return the JSON with so many images. `origin` starts their URLs."""
        digest, data = sha256(call.prompt.encode()).digest(), []
        for seed in range(images):
            spec = (digest, call.width, call.height, seed)
            image = {}
            if settings.answer != "url":
                png = await self.pictures.draw(spec) if settings.picture == "drawn" else DOT
                image["b64_json"] = base64.b64encode(png).decode()
            if settings.answer != "b64_json":
                image["url"] = origin + self.pictures.link(spec, settings.url_ttl)
            data.append(image)
        return json.encode(
            {
                "created": int(self.clock()),
                "background": call.background,
                "data": data,
                "output_format": call.output_format,
                "quality": call.quality,
                "size": f"{call.width}x{call.height}",
                "usage": _usage(call, images),
            }
        )


def check_key(state: State, authorization: str) -> None:
    """Raise a refusal unless the Authorization header has a valid key."""
    if not state.knows(authorization):
        message = "The Authorization header has no valid API key."
        raise refusal(message, None, "invalid_api_key", web.HTTPUnauthorized)


def _usage(call: ImageCall, images: int) -> dict[str, Any]:
    """Plausible tokens: a quarter of the prompt's bytes, and by the square of the shorter edge.

    Both cost less than such an image in a price table with the same prices.
    """
    text = max(1, len(call.prompt.encode()) // 4)
    edge = min(call.width, call.height)
    output = images * (SQUARE_TOKENS[call.quality] * edge * edge // 1024**2)
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
            response, _ = await send(request, huge(fault.bytes), {})
        case "gzip_bomb":
            response, _ = await send(request, bomb(fault.bytes), {"Content-Encoding": "gzip"})
        case "status":
            return status_response(fault.status, fault.body, fault.headers)
        case "not_json":
            return plain_response(200, page("All is well"))
        case "no_image":
            return plain_response(200, b'{"created":0,"data":[]}')
        case "empty_image":
            return plain_response(200, b'{"created":0,"data":[{"b64_json":null}]}')
        case "echo_key":
            message = f"Rejected: {request.headers['Authorization']}"
            error = error_body(message, "invalid_request_error", "rejected")
            return plain_response(400, error)
        case _:
            return None
    return response


async def _deliver(
    request: web.Request, body: bytes, fault: UpstreamFault | None
) -> tuple[web.StreamResponse, bool]:
    """Send the images. Also returns whether the response went out whole."""
    kind = fault.kind if fault else None
    headers = _JUNK if kind == "set_cookie" else {}
    if kind == "gzip":
        body = await asyncio.to_thread(gzip.compress, body, 1)
        headers = {"Content-Encoding": "gzip"}
    pieces = whole(body)
    if kind == "cut_in_body":
        pieces = half(request, body)
    if kind == "slow_body" and fault:
        pieces = slowly(body, fault.after)
    return await send(request, pieces, {"Content-Length": str(len(body)), **headers})
