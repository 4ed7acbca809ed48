"""The sandbox's server: the contract's routes, pictures by URL, and a control route.

    POST /api/v1/images/generations    the contract
    GET  /api/v1/models
    GET  /files/{name}                 a picture, until its URL's time is over: then 403
    GET, POST, DELETE /control         settings and counts; set faults or settings; forget faults

A client that hangs up changes nothing: the images are drawn and counted all the same.
"""

import asyncio
import base64
import gzip
import time
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from msgspec import Struct, ValidationError, convert, json, structs

from gateway.upstream.sandbox.counts import Counts, Received
from gateway.upstream.sandbox.faults import Fault, error, status_error
from gateway.upstream.sandbox.pictures import DOT, Pictures
from gateway.upstream.sandbox.requests import MODEL, Asked, Refused, read_asked
from gateway.upstream.sandbox.settings import Answer, SandboxSettings

_CHUNK = 65_536
_JSON = {"Content-Type": "application/json"}


class _Control(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What can be set by POST /control."""

    faults: list[Fault] | None = None
    latency: float | None = None
    answer: Answer | None = None


class Sandbox:
    """A stand-in upstream. `fault` applies until it is taken back; `faults` are used up in turn."""

    def __init__(self, settings: SandboxSettings | None = None) -> None:
        self.settings = settings or SandboxSettings()
        self.counts = Counts()
        self.fault: Fault | None = None
        self.faults: deque[Fault] = deque()
        self.url = ""
        self._pictures = Pictures(self.settings.url_ttl)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes any free one, and `url` tells which. Raises OSError."""
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=4_096).start()
        except OSError:
            await self.stop()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening; calls under way are cut off."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def app(self) -> web.Application:
        """The routes, for whoever runs a server of their own."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/api/v1/images/generations", self._generate)
        app.router.add_get("/api/v1/models", self._models)
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/control", self._show)
        app.router.add_post("/control", self._set)
        app.router.add_delete("/control", self._reset)
        return app

    # -- the contract ---------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        counts = self.counts
        counts.asked += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        counts.requests.append(Received(headers, body, time.monotonic()))
        if not self._knows(headers.get("authorization", "")):
            return _json(401, status_error(401)[0])
        try:
            asked = read_asked(body)
        except Refused as refused:
            return _json(400, refused.body)
        counts.calls += 1
        counts.images_asked += asked.n
        counts.in_flight += 1
        counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        try:
            return await self._answer(request, asked, self._next_fault())
        finally:
            counts.in_flight -= 1

    def _knows(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        right = self.settings.api_key
        return scheme.lower() == "bearer" and bool(key) and right in (None, key)

    def _next_fault(self) -> Fault | None:
        fault = self.faults[0] if self.faults else self.fault
        if fault is None or fault.times is None:
            return fault
        fault.times -= 1
        if fault.times <= 0 and self.faults:
            self.faults.popleft()
        elif fault.times <= 0:
            self.fault = None
        return fault

    async def _answer(
        self, request: web.Request, asked: Asked, fault: Fault | None
    ) -> web.StreamResponse:
        """Draw and deliver, or do what the fault says."""
        await asyncio.sleep(self.settings.latency)
        images = asked.n if fault is None or fault.kind != "fewer" else fault.images
        if fault is None or fault.draws:
            self.counts.images_drawn += images
        if fault is not None and fault.kind not in ("fewer", "gzip", "set_cookie"):
            return await self._go_wrong(request, asked, fault)
        body = json.encode(await self._body(asked, images))
        headers = dict(_JSON)
        if fault is not None and fault.kind == "gzip":
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        elif fault is not None and fault.kind == "set_cookie":
            headers |= {
                "Set-Cookie": "session=1",
                "x-ratelimit-remaining-images": "3",
                "X-Internal": "1",
            }
        self.counts.delivered += 1
        self.counts.images_delivered += images
        return web.Response(body=body, headers=headers)

    async def _body(self, asked: Asked, images: int) -> dict[str, Any]:
        text, made = len(asked.prompt) // 4 + 1, 1_056 * images
        return {
            "created": int(time.time()),
            "background": asked.fields.get("background") or "opaque",
            "data": [await self._image(asked, seed) for seed in range(images)],
            "output_format": asked.fields.get("output_format") or "png",
            "quality": asked.quality,
            "size": asked.size,
            "usage": {
                "input_tokens": text,
                "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
                "output_tokens": made,
                "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
                "total_tokens": text + made,
            },
        }

    async def _image(self, asked: Asked, seed: int) -> dict[str, str]:
        png = DOT
        if self.settings.picture == "drawn":
            png = await self._pictures.draw(asked, seed)
        image = {}
        if self.settings.answer in ("b64_json", "both"):
            image["b64_json"] = base64.b64encode(png).decode()
        if self.settings.answer in ("url", "both"):
            image["url"] = self.url + self._pictures.link(png)
        return image

    async def _models(self, request: web.Request) -> web.Response:
        if not self._knows(request.headers.get("Authorization", "")):
            return _json(401, status_error(401)[0])
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "sandbox"}
        return _json(200, {"object": "list", "data": [model]})

    async def _file(self, request: web.Request) -> web.Response:
        png = self._pictures.open(request.match_info["name"])
        if png is None:
            return web.Response(status=403, text="This link has expired.")
        return web.Response(body=png, content_type="image/png")

    # -- faults ---------------------------------------------------------------------------------

    async def _go_wrong(
        self, request: web.Request, asked: Asked, fault: Fault
    ) -> web.StreamResponse:
        match fault.kind:
            case "status":
                return _status(fault)
            case "not_json":
                return web.Response(text="<html>All is well.</html>", content_type="text/html")
            case "no_image":
                return _json(200, {"created": 0, "data": []})
            case "empty_image":
                return _json(200, {"created": 0, "data": [{"b64_json": None}]})
            case "echo_key":
                sent = request.headers.get("Authorization", "")
                return _json(400, error(f"Rejected: {sent}", "invalid_request_error", "rejected"))
            case "hang":
                await asyncio.sleep(86_400)
            case "huge":
                return await _stream(request, _JSON, fault.bytes)
            case "gzip_bomb":
                bomb = {**_JSON, "Content-Encoding": "gzip"}
                return web.Response(body=_bomb(fault.bytes), headers=bomb)
            case "cut_in_body" | "slow_body":
                body = json.encode(await self._body(asked, asked.n))
                return await _piecemeal(request, body, fault)
        _cut(request)
        return web.Response()

    # -- control --------------------------------------------------------------------------------

    async def _show(self, request: web.Request) -> web.Response:
        counts = {
            name: value
            for name, value in structs.asdict(self.counts).items()
            if isinstance(value, int)
        }
        settings = {**structs.asdict(self.settings), "api_key": None}
        faults = [*self.faults, *([self.fault] if self.fault else [])]
        return _json(200, {"settings": settings, "counts": counts, "faults": faults})

    async def _set(self, request: web.Request) -> web.Response:
        try:
            control = convert(json.decode(await request.read()), _Control)
        except (ValidationError, ValueError) as fault:
            return _json(400, error(str(fault), "invalid_request_error", "invalid_control"))
        if control.faults is not None:
            self.faults = deque(control.faults)
        if control.latency is not None:
            self.settings.latency = control.latency
        if control.answer is not None:
            self.settings.answer = control.answer
        return await self._show(request)

    async def _reset(self, request: web.Request) -> web.Response:
        self.fault = None
        self.faults.clear()
        return await self._show(request)


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=json.encode(value), headers=_JSON)


def _status(fault: Fault) -> web.Response:
    body, headers = status_error(fault.status)
    headers = {**headers, **fault.headers}
    if fault.body is not None:
        return web.Response(status=fault.status, text=fault.body, headers=headers)
    if isinstance(body, str):
        return web.Response(
            status=fault.status, text=body, content_type="text/html", headers=headers
        )
    return web.Response(status=fault.status, body=json.encode(body), headers={**_JSON, **headers})


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _stream(
    request: web.Request, headers: Mapping[str, str], size: int
) -> web.StreamResponse:
    """An answer of `size` bytes that begins as JSON and is never whole in memory."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(b'{"created":0,"data":[{"b64_json":"')
    for _ in range(size // _CHUNK):
        await response.write(b"A" * _CHUNK)
    await response.write(b'"}]}')
    return response


async def _piecemeal(request: web.Request, body: bytes, fault: Fault) -> web.StreamResponse:
    """Half of the body and then nothing more, or all of it in ten pieces."""
    response = web.StreamResponse(headers={**_JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    if fault.kind == "cut_in_body":
        await response.write(body[: len(body) // 2])
        _cut(request)
        return response
    step = len(body) // 10 + 1
    for start in range(0, len(body), step):
        await asyncio.sleep(fault.after / 10)
        await response.write(body[start : start + step])
    return response


def _bomb(size: int) -> bytes:
    """Gzip that inflates to `size` bytes of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes(_CHUNK)) for _ in range(size // _CHUNK)]
    return b"".join([*parts, packer.flush()])
