"""The dashboard: one page for all its addresses, and the files that this page loads.

There is no build step: the gateway serves the files under `assets/` unchanged. They hold no secret,
so they need no session; the data that they show comes from the admin API, which needs one. The
Content-Security-Policy allows nothing from other hosts and no inline script or style.
"""

import hashlib
from collections.abc import Callable, Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web
from msgspec import Struct

from gateway.config.settings import AdminSettings
from gateway.web.admin.request import AdminHandler, AdminRequest, AdminRoute
from gateway.web.admin.responses import pages

SECTIONS = ("teams", "activity", "cache", "alerts", "audit")
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

_PAGE = "index.html"
_OFF = "off.html"


class Asset(Struct, frozen=True, kw_only=True):
    """One file of the dashboard."""

    body: bytes
    type: str
    etag: str


class Dashboard:
    """The dashboard on the admin port. `admin` returns the current tokens."""

    def __init__(self, admin: Callable[[], AdminSettings]) -> None:
        self._admin = admin
        self._files = dict(_read(resources.files("gateway.web") / "assets", ""))

    def routes(self) -> Iterator[AdminRoute]:
        """The routes of the page, at all of its addresses, and of the files that it loads."""
        for name, file in self._files.items():
            if name not in (_PAGE, _OFF):
                yield from pages(f"/assets/{name}", _serving(file))
        yield from pages("/", self._page)
        for section in SECTIONS:
            yield from pages(f"/{section}", self._page)
            yield from pages(f"/{section}/{{rest*}}", self._page)

    async def _page(self, call: AdminRequest) -> web.Response:
        """The page, or how to switch the dashboard on where no token could open it."""
        if self._admin().all_tokens:
            return _answer(call.request, self._files[_PAGE])
        return _answer(call.request, self._files[_OFF], 404)


def _serving(file: Asset) -> AdminHandler:
    async def handle(call: AdminRequest) -> web.Response:
        return _answer(call.request, file)

    return handle


def _answer(request: web.BaseRequest, file: Asset, status: int = 200) -> web.Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if status == 200 and file.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(
        status=status, body=file.body, headers={**headers, "Content-Type": file.type}
    )


def _read(folder: Traversable, within: str) -> Iterator[tuple[str, Asset]]:
    """The files to serve, with their paths under `folder`."""
    for entry in folder.iterdir():
        name = f"{within}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif (type := _TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            body = entry.read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            yield name, Asset(body=body, type=type, etag=f'"{digest[:32]}"')
