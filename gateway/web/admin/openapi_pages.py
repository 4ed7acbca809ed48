"""The OpenAPI document and the page that shows it, on the admin port.

They need no token, but answer only where there is an admin API. The page works offline: all that
it loads comes from here, which its Content-Security-Policy enforces.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources

from aiohttp import web
from msgspec import json

from gateway.config.settings import AdminSettings
from gateway.core.errors import AdminOff
from gateway.web.admin.openapi import ADMIN, TEAM, Port, document
from gateway.web.admin.openapi_public import public_routes
from gateway.web.admin.routes import Route
from gateway.web.http_server import Handler

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs.css": ("docs.css", "text/css; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Server": "image-gateway",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def pages(
    admin: Callable[[], AdminSettings], routes: Sequence[Route], *, url: str
) -> Mapping[str, Handler]:
    """The pages by their paths. `url` is where the public port answers."""
    folder = resources.files("gateway.web") / "docs"
    told = document(
        [
            Port(url="/", security=ADMIN, routes=tuple(routes)),
            Port(url=url, security=TEAM, routes=public_routes()),
        ]
    )
    files = {
        path: _page(admin, (folder / name).read_bytes(), kind)
        for path, (name, kind) in _FILES.items()
    }
    return {"/openapi.json": _page(admin, json.encode(told), "application/json"), **files}


def _page(admin: Callable[[], AdminSettings], body: bytes, kind: str) -> Handler:
    async def handle(request: web.BaseRequest) -> web.Response:
        if not admin().all_tokens:
            raise AdminOff
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": kind})

    return handle
