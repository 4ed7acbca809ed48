"""The OpenAPI document and the page that shows it, on the admin port.

They need no token, but answer only while the admin API is on. The page works offline: it loads
everything from the gateway.
"""

from collections.abc import Callable, Sequence
from importlib import resources

from aiohttp import web
from msgspec import json

from gateway.config.settings import AdminSettings
from gateway.core.errors import AdminOff
from gateway.web.admin.request import AdminHandler, AdminRequest, AdminRoute
from gateway.web.admin.responses import pages
from gateway.web.admin.static_files import StaticFile, read_files, send_file, static_file
from gateway.web.openapi.document import DocumentedPort, document


def openapi_pages(
    admin: Callable[[], AdminSettings], ports: Sequence[DocumentedPort]
) -> list[AdminRoute]:
    """The routes of the document and its page. `admin` returns the current tokens."""
    files = dict(read_files(resources.files("gateway.web") / "docs"))
    files["docs"] = files.pop("docs.html")
    files["openapi.json"] = static_file(json.encode(document(ports)), "application/json")

    def serving(file: StaticFile) -> AdminHandler:
        async def handle(call: AdminRequest) -> web.Response:
            if not admin().all_tokens:
                raise AdminOff
            return send_file(call.request, file)

        return handle

    return [
        route
        for name, file in files.items()
        for route in pages(f"/{name}", serving(file), methods=("GET",))
    ]
