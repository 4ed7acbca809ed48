"""Files that the admin port serves unchanged: those of the dashboard and of the API documentation.

The Content-Security-Policy allows nothing from other hosts and no inline script or style.
"""

import hashlib
from collections.abc import Iterator
from importlib.resources.abc import Traversable

from aiohttp import web
from msgspec import Struct

from gateway.web.admin.request import AdminHandler, AdminRequest

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


def serving(file: StaticFile) -> AdminHandler:
    """The handler that answers with this file."""

    async def handle(call: AdminRequest) -> web.Response:
        return send_file(call.request, file)

    return handle


def send_file(request: web.BaseRequest, file: StaticFile, status: int = 200) -> web.Response:
    """Answer with a file, or with 304 if the client has it already."""
    headers = {**_HEADERS, "ETag": file.etag}
    if status == 200 and file.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = file.type
    return web.Response(status=status, body=file.body, headers=headers)
