"""The generations route: one call from its arrival to its end, with or without a fault.

- A refused request costs nothing. For a valid one the latency passes first. Then the images are
  drawn, and cost money. In a stream, the partial images come meanwhile.
- A client that hangs up changes nothing: the images are drawn and counted all the same.
"""

import asyncio
import base64
import gzip
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiohttp import web
from msgspec import json

from gateway.upstream.sandbox.pictures import DOT, Pictures, Spec
from gateway.upstream.sandbox.requests import ImageCall, read_call, refusal
from gateway.upstream.sandbox.responses import (
    bomb,
    cut,
    error_body,
    event,
    half,
    hang,
    huge,
    paced,
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

PARTIAL_TOKENS = 100

STREAM = {"Content-Type": "text/event-stream"}

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
        is_paced = call.stream and fault is None
        if not is_paced:
            await asyncio.sleep(settings.latency)
        images = fault.images if fault is not None and fault.kind == "fewer" else call.n
        if fault is None or fault.costs:
            counts.images_drawn += images
            received.images_drawn = images
        if fault is not None and (response := await _without_images(request, fault)) is not None:
            return response
        origin = f"{request.scheme}://{request.host}"
        data = await self._data(call, images, settings, origin)
        if is_paced:
            pieces = paced(await self._events(call, data, settings), settings.latency)
            response, received.delivered = await send(request, pieces, STREAM)
        elif call.stream:
            body = b"".join(await self._events(call, data, settings))
            response, received.delivered = await _deliver(request, body, fault, STREAM)
        else:
            body = json.encode({**self._common(call), "data": data, "usage": _usage(call, images)})
            response, received.delivered = await _deliver(request, body, fault)
        if received.delivered:
            counts.delivered += 1
            counts.images_delivered += images
        return response

    async def _data(
        self, call: ImageCall, images: int, settings: SandboxSettings, origin: str
    ) -> list[dict[str, str]]:
        """Return so many images. `origin` starts their URLs."""
        digest, data = sha256(call.prompt.encode()).digest(), []
        for seed in range(images):
            spec = (digest, call.width, call.height, seed)
            image = {}
            if settings.answer != "url":
                image["b64_json"] = await self._base64(spec, settings)
            if settings.answer != "b64_json":
                image["url"] = origin + self.pictures.link(spec, settings.url_ttl)
            data.append(image)
        return data

    async def _base64(self, spec: Spec, settings: SandboxSettings) -> str:
        is_drawn = settings.picture == "drawn"
        return base64.b64encode(await self.pictures.draw(spec) if is_drawn else DOT).decode()

    def _common(self, call: ImageCall) -> dict[str, Any]:
        """Return the fields that are not about one image."""
        return {
            "created": int(self.clock()),
            "background": call.background,
            "output_format": call.output_format,
            "quality": call.quality,
            "size": f"{call.width}x{call.height}",
        }

    async def _events(
        self, call: ImageCall, data: Sequence[dict[str, str]], settings: SandboxSettings
    ) -> list[bytes]:
        """Return the events of these images: before each one, its partial images.

        Those are the same picture in other colours. The prompt's tokens are those of the first.
        """
        common = self._common(call)
        common["created_at"] = common.pop("created")
        digest, events = sha256(call.prompt.encode()).digest(), []
        for seed, image in enumerate(data):
            for index in range(call.partial_images):
                colours = digest[1 + index :] + digest[: 1 + index]
                spec = (colours, call.width, call.height, seed)
                picture = await self._base64(spec, settings)
                partial = {**common, "b64_json": picture, "partial_image_index": index}
                events.append(event("image_generation.partial_image", partial))
            usage = _usage(call, 1, with_prompt=not seed)
            events.append(event("image_generation.completed", {**common, **image, "usage": usage}))
        return events


def check_key(state: State, authorization: str) -> None:
    """Raise a refusal unless the Authorization header has a valid key."""
    if not state.knows(authorization):
        message = "The Authorization header has no valid API key."
        raise refusal(message, None, "invalid_api_key", web.HTTPUnauthorized)


def _usage(call: ImageCall, images: int, *, with_prompt: bool = True) -> dict[str, Any]:
    """Plausible tokens: a quarter of the prompt's bytes, and by the square of the shorter edge.

    Both cost less than such an image in a price table with the same prices.
    """
    text = max(1, len(call.prompt.encode()) // 4) if with_prompt else 0
    edge = min(call.width, call.height)
    drawn = SQUARE_TOKENS[call.quality] * edge * edge // 1024**2
    output = images * (drawn + PARTIAL_TOKENS * call.partial_images)
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
    request: web.Request,
    body: bytes,
    fault: UpstreamFault | None,
    further: Mapping[str, str] = {},
) -> tuple[web.StreamResponse, bool]:
    """Send the images. Also returns whether the response went out whole."""
    kind = fault.kind if fault else None
    headers = dict(further)
    if kind == "set_cookie":
        headers |= _JUNK
    if kind == "gzip":
        body = await asyncio.to_thread(gzip.compress, body, 1)
        headers["Content-Encoding"] = "gzip"
    pieces = whole(body)
    if kind == "cut_in_body":
        pieces = half(request, body)
    if kind == "slow_body" and fault:
        pieces = slowly(body, fault.after)
    return await send(request, pieces, {"Content-Length": str(len(body)), **headers})
