"""The sandbox's server and its routes.

    POST /api/v1/images/generations    the contract
    GET  /api/v1/models
    GET  /files/{name}                 a picture; 403 once its URL has expired
    GET, POST, DELETE /control         settings, faults and counts

The control route switches faults and settings from outside:

    GET     returns settings, counts and faults
    POST    {"faults": [...], "latency": ..., "answer": ..., "url_ttl": ..., "picture": ...},
            all optional; the faults replace the present ones
    DELETE  removes all faults

Nothing that a client sent is logged: neither requests nor bytes that aiohttp could not parse.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import asdict

from gateway.config.values import addresses_of
from gateway.core.tasks import Service
from gateway.upstream.sandbox.generations import Generations, check_key
from gateway.upstream.sandbox.pictures import DOT, Pictures
from gateway.upstream.sandbox.requests import MODEL, refusal
from gateway.upstream.sandbox.responses import plain_response
from gateway.upstream.sandbox.state import SandboxSettings, State, UpstreamFault

BACKLOG = 4_096
"""Connections that may wait to be accepted: load tests open thousands at once."""

MAX_BODY_BYTES = 64 * 1024**2

STOP_SECONDS = 0.4
"""How long aiohttp waits for a connection to end, twice at most."""


class Sandbox(State, Service):
    """A stand-in upstream. `clock` returns seconds since the epoch.

    It may be started and stopped repeatedly: settings, faults and counts stay. `async with` serves
    on a free port of 127.0.0.1.
    """

    def __init__(
        self, settings: SandboxSettings | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(settings)
        self.url = ""
        self._pictures = Pictures(clock)
        self._generations = Generations(self, self._pictures, clock)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a port and set `url`. Port 0 is any free port, `::` all addresses.

        Raises OSError.
        """
        self._runner = web.AppRunner(
            self.app(), access_log=None, logger=_log, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        try:
            for address in addresses_of(host):
                await web.TCPSite(self._runner, address, port, backlog=BACKLOG).start()
                port = self._runner.addresses[0][1]
        except OSError:
            await self.close()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}"

    async def close(self) -> None:
        """Stop listening within a second. Calls in flight are cut off."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def app(self) -> web.Application:
        """Return the routes, for callers that run a server of their own."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/api/v1/images/generations", self._generations.handle)
        app.router.add_get("/api/v1/models", self._models)
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/control", self._show)
        app.router.add_post("/control", self._change)
        app.router.add_delete("/control", self._reset)
        app.router.add_route("*", "/{path:.*}", _not_found)
        app.on_shutdown.append(self._end_calls)
        return app

    async def _end_calls(self, app: web.Application) -> None:
        """End all calls in flight, also those without a client."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)

    async def _models(self, request: web.Request) -> web.Response:
        check_key(self, request.headers.get("Authorization", ""))
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "sandbox"}
        return web.json_response({"object": "list", "data": [model]})

    async def _file(self, request: web.Request) -> web.Response:
        name, query = request.match_info["name"], request.query
        spec = self._pictures.open(name, query.get("se", ""), query.get("sig", ""))
        if spec is None:
            return web.Response(status=403, text="This link has expired or is invalid.")
        png = DOT if self.settings.picture == "dot" else await self._pictures.draw(spec)
        return web.Response(body=png, content_type="image/png")

    # -- the control route ----------------------------------------------------------------------

    async def _show(self, request: web.Request) -> web.Response:
        settings = asdict(self.settings)
        del settings["api_key"]
        faults = [*self.faults, *([self.fault] if self.fault else [])]
        shown = {"settings": settings, "counts": self.counts.numbers(), "faults": faults}
        return plain_response(200, msgspec.json.encode(shown))

    async def _change(self, request: web.Request) -> web.Response:
        try:
            changes = msgspec.json.decode(await request.read(), type=dict[str, Any])
            faults = msgspec.convert(changes.pop("faults", None), list[UpstreamFault] | None)
            if "api_key" in changes:
                raise msgspec.ValidationError("the key cannot be changed")
            settings = msgspec.convert({**asdict(self.settings), **changes}, SandboxSettings)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error), None, "invalid") from None
        self.settings = settings
        if faults is not None:
            self.reset_faults()
            self.faults.extend(faults)
        return await self._show(request)

    async def _reset(self, request: web.Request) -> web.Response:
        self.reset_faults()
        return await self._show(request)


async def _not_found(request: web.Request) -> web.Response:
    raise refusal("There is no such route.", None, "not_found", web.HTTPNotFound)


def _is_loggable(record: logging.LogRecord) -> bool:
    """Log only defects of the sandbox, by type and place: their text may contain anything."""
    failure = record.exc_info[1] if record.exc_info else None
    if failure is None or isinstance(failure, _CLIENT_FAULTS):
        return False
    record.msg, record.args = "the sandbox failed: %s", (type(failure).__name__,)
    record.exc_info = (RuntimeError, RuntimeError(), failure.__traceback__)
    return True


_CLIENT_FAULTS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
"""Invalid HTTP, a broken body, and a client that left while it was sending one."""

_log = logging.getLogger("gateway.sandbox")
_log.addFilter(_is_loggable)
