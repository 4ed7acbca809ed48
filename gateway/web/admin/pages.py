"""Open pages of the admin port: the dashboard, the documentation of the API, and their files.

There is no build step: the gateway serves the files under `assets/` and `docs/` unchanged. They
hold no secret, so they need no session; the data that they show comes from the admin API, which
needs one. The Content-Security-Policy allows nothing from other hosts and no inline script or
style.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web
from msgspec import Struct

from gateway.config.settings import AdminSettings
from gateway.core.admin_errors import AdminOff
from gateway.web.admin.http import AdminHandler, AdminRequest, AdminRoute
from gateway.web.openapi import DocumentedPort, document

SECTIONS = ("teams", "activity", "purchases", "cache", "alerts", "audit")
"""The first segments of the dashboard's addresses; the overview is at `/` itself."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = {
    "Server": "image-gateway",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The files that are served. Licences and notes beside them are not."""


class StaticFile(Struct, frozen=True, kw_only=True):
    """One file, with its digest as its entity tag."""

    body: bytes
    type: str
    etag: str


def static_file(body: bytes, type: str) -> StaticFile:
    """A file with this content."""
    return StaticFile(body=body, type=type, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def read_files(folder: Traversable, within: str = "") -> Iterator[tuple[str, StaticFile]]:
    """The files to serve, with their paths under `folder`."""
    for entry in folder.iterdir():
        name = f"{within}{entry.name}"
        if entry.is_dir():
            yield from read_files(entry, f"{name}/")
        elif (type := _TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            yield name, static_file(entry.read_bytes(), type)


def send_file(request: web.BaseRequest, file: StaticFile, status: int = 200) -> web.Response:
    """Answer with a file, or with 304 if the client has it already."""
    headers = {**_HEADERS, "ETag": file.etag}
    if status == 200 and file.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = file.type
    return web.Response(status=status, body=file.body, headers=headers)


def _with_relative_links(page: StaticFile, request: web.BaseRequest) -> StaticFile:
    """The page for its address. Behind a proxy that removes a prefix, only the browser knows it."""
    up = "../" * (request.rel_url.raw_path.count("/") - 1) or "./"
    return static_file(page.body.replace(b'"/', f'"{up}'.encode()), page.type)


def page_route(path: str, handler: AdminHandler) -> AdminRoute:
    """The route of a page that needs no token and is no part of the admin API."""
    return AdminRoute("GET", path, path, handler, is_open=True)


def dashboard_routes(admin: Callable[[], AdminSettings]) -> Iterator[AdminRoute]:
    """The routes of the dashboard, at all of its addresses, and of the files that it loads.

    `admin` returns the current tokens.
    """
    files = dict(read_files(resources.files("gateway.web") / "assets"))
    page, off = files.pop("index.html"), files.pop("off.html")

    async def send(file: StaticFile, call: AdminRequest) -> web.Response:
        return send_file(call.request, file)

    async def show(call: AdminRequest) -> web.Response:
        """The page, or how to switch the dashboard on where no token could open it."""
        if admin().all_tokens:
            return send_file(call.request, _with_relative_links(page, call.request))
        return send_file(call.request, _with_relative_links(off, call.request), 404)

    for name, file in files.items():
        yield page_route(f"/assets/{name}", partial(send, file))
    yield page_route("/", show)
    for section in SECTIONS:
        yield page_route(f"/{section}", show)
        yield page_route(f"/{section}/{{rest*}}", show)


def openapi_pages(
    admin: Callable[[], AdminSettings], ports: Sequence[DocumentedPort]
) -> Iterator[AdminRoute]:
    """The routes of the OpenAPI document and of the page that shows it.

    They need no token, but answer only while the admin API is on. The page works offline: it loads
    everything from the gateway. `admin` returns the current tokens.
    """
    files = dict(read_files(resources.files("gateway.web") / "docs"))
    files["docs"] = files.pop("docs.html")

    @cache
    def described() -> StaticFile:  # at the first request: it takes most of the time of a start
        return static_file(document(ports), "application/json")

    async def show(file: StaticFile, call: AdminRequest) -> web.Response:
        if not admin().all_tokens:
            raise AdminOff
        return send_file(call.request, file)

    async def describe(call: AdminRequest) -> web.Response:
        return await show(await asyncio.to_thread(described), call)

    yield page_route("/openapi.json", describe)
    for name, file in files.items():
        yield page_route(f"/{name}", partial(show, file))
