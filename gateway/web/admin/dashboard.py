"""The dashboard's files: one page for all its addresses, and what that page loads.

There is no build step: the files under `assets/` are served as they are written. They hold no
secret, so they need no session; all that they show comes from the admin API, which does. The
Content-Security-Policy allows nothing from elsewhere and no script or style within a page.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web
from msgspec import Struct

from gateway.config.settings import AdminSettings
from gateway.web.http_server import Handler

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
"""What is served. Licences and notes lie beside it and are not."""

_PAGE = "index.html"
_OFF = "off.html"


class Asset(Struct, frozen=True, kw_only=True):
    """A file as it is served."""

    body: bytes
    type: str
    etag: str


class Dashboard:
    """The dashboard on the admin port. `admin` gives the tokens of this moment."""

    def __init__(self, admin: Callable[[], AdminSettings]) -> None:
        self._admin = admin
        self._files = dict(_read(resources.files("gateway.web") / "assets", ""))

    def find(self, path: str) -> Mapping[str, Handler] | None:
        """The handlers of a path by method; None for one that is not the dashboard's.

        The path is compared as it came, undecoded.
        """
        name = path.removeprefix("/assets/")
        if name != path:
            file = self._files.get(name)
            if file is None or name in (_PAGE, _OFF):
                return None
            return _methods(_serving(file))
        if path == "/" or path[1:].partition("/")[0] in SECTIONS:
            return _methods(self._page)
        return None

    async def _page(self, request: web.BaseRequest) -> web.Response:
        """The page, or a word on how to switch it on where no token could open it."""
        if self._admin().all_tokens:
            return _answer(request, self._files[_PAGE])
        return _answer(request, self._files[_OFF], 404)


def _methods(handler: Handler) -> Mapping[str, Handler]:
    return {"GET": handler, "HEAD": handler}


def _serving(file: Asset) -> Handler:
    async def handle(request: web.BaseRequest) -> web.Response:
        return _answer(request, file)

    return handle


def _answer(request: web.BaseRequest, file: Asset, status: int = 200) -> web.Response:
    headers = {**_HEADERS, "ETag": file.etag}
    if status == 200 and file.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(
        status=status, body=file.body, headers={**headers, "Content-Type": file.type}
    )


def _read(folder: Traversable, within: str) -> Iterator[tuple[str, Asset]]:
    """All files that are served, by their path under `folder`."""
    for entry in folder.iterdir():
        name = f"{within}{entry.name}"
        if entry.is_dir():
            yield from _read(entry, f"{name}/")
        elif (type := _TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            body = entry.read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            yield name, Asset(body=body, type=type, etag=f'"{digest[:32]}"')
