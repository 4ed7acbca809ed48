"""The OpenAPI document and the page that shows it, on the admin port.

They need no token, but answer only while the admin API is on. The page works offline: it loads
everything from the gateway, and its Content-Security-Policy allows nothing else.
"""

from collections.abc import Callable, Sequence
from importlib import resources

from aiohttp import web
from msgspec import json

from gateway.config.settings import AdminSettings
from gateway.core.errors import AdminOff
from gateway.web.admin.request import AdminHandler, AdminRequest, AdminRoute
from gateway.web.admin.responses import pages
from gateway.web.openapi.document import DocumentedPort, document

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


def openapi_pages(
    admin: Callable[[], AdminSettings], ports: Sequence[DocumentedPort]
) -> list[AdminRoute]:
    """The routes of the document and its page. `admin` returns the current tokens."""
    folder = resources.files("gateway.web") / "docs"
    files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
    files["/openapi.json"] = (json.encode(document(ports)), "application/json")
    return [
        route
        for path, (body, kind) in files.items()
        for route in pages(path, _page(admin, body, kind), methods=("GET",))
    ]


def _page(admin: Callable[[], AdminSettings], body: bytes, kind: str) -> AdminHandler:
    async def handle(call: AdminRequest) -> web.Response:
        if not admin().all_tokens:
            raise AdminOff
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": kind})

    return handle
