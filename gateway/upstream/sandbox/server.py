"""The sandbox's server and its routes.

    POST /api/v1/images/generations    the contract
    GET  /api/v1/models
    GET  /files/{name}                 a picture, until its URL's time is over: then 403
    GET, POST, DELETE /control         see `gateway.upstream.sandbox.control`

Nothing that a client sent is logged: neither requests nor what aiohttp could not read.
"""

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.upstream.sandbox.control import Control
from gateway.upstream.sandbox.errors import Refused, error, json_reply
from gateway.upstream.sandbox.generations import Generations, check_key
from gateway.upstream.sandbox.pictures import DOT, Pictures
from gateway.upstream.sandbox.requests import MODEL
from gateway.upstream.sandbox.state import SandboxSettings, State

BACKLOG = 4_096
"""Connections that may wait to be accepted: load tests open thousands at once."""

MAX_BODY_BYTES = 64 * 1024**2

STOP_SECONDS = 0.4
"""What aiohttp waits, twice at most, for a connection to end."""


class Sandbox(State):
    """A stand-in upstream: what it does is switched by the attributes of `State`.

    `clock` gives seconds since the epoch. Starts and stops as often as wanted; settings, faults
    and counts stay. `async with` serves on a free port of 127.0.0.1.
    """

    def __init__(
        self, settings: SandboxSettings | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(settings)
        self.url = ""
        self._pictures = Pictures(clock)
        self._generations = Generations(self, self._pictures, clock)
        self._control = Control(self)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes any free one, and `url` tells which. Raises OSError."""
        self._runner = web.AppRunner(
            self.app(), access_log=None, logger=_log, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=BACKLOG).start()
        except OSError:
            await self.stop()
            raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening within a second; calls under way end here, and are cut off."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def app(self) -> web.Application:
        """The routes, for whoever runs a server of their own."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/api/v1/images/generations", self._generations.handle)
        app.router.add_get("/api/v1/models", self._models)
        app.router.add_get("/files/{name}", self._file)
        app.router.add_get("/control", self._control.show)
        app.router.add_post("/control", self._control.set)
        app.router.add_delete("/control", self._control.reset)
        app.router.add_route("*", "/{path:.*}", _nowhere)
        app.on_shutdown.append(self._end_calls)
        return app

    async def _end_calls(self, app: web.Application) -> None:
        await self._generations.cancel()

    async def _models(self, request: web.Request) -> web.Response:
        try:
            check_key(self, request.headers.get("Authorization", ""))
        except Refused as refused:
            return refused.reply.response
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "sandbox"}
        return json_reply(200, {"object": "list", "data": [model]}).response

    async def _file(self, request: web.Request) -> web.Response:
        name, query = request.match_info["name"], request.query
        spec = self._pictures.open(name, query.get("se", ""), query.get("sig", ""))
        if spec is None:
            return web.Response(status=403, text="This link has expired, or was never given out.")
        png = DOT if self.settings.picture == "dot" else await self._pictures.draw(spec)
        return web.Response(body=png, content_type="image/png")


async def _nowhere(request: web.Request) -> web.Response:
    body = error("There is no such route.", "invalid_request_error", "not_found")
    return json_reply(404, body).response


def _is_loggable(record: logging.LogRecord) -> bool:
    """Let through the sandbox's own defects, by type and place alone: a text may hold anything."""
    failure = record.exc_info[1] if record.exc_info else None
    if failure is None or isinstance(failure, _CLIENTS_FAULTS):
        return False
    record.msg, record.args = "the sandbox failed: %s", (type(failure).__name__,)
    record.exc_info = (RuntimeError, RuntimeError(), failure.__traceback__)
    return True


_CLIENTS_FAULTS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
"""No HTTP, a broken body, and a client that left while it was sending one."""

_log = logging.getLogger("gateway.sandbox")
_log.addFilter(_is_loggable)
