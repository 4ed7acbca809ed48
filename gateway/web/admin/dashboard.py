"""The dashboard: one page for all its addresses, and the files that this page loads.

There is no build step: the gateway serves the files under `assets/` unchanged. They hold no secret,
so they need no session; the data that they show comes from the admin API, which needs one.
"""

from collections.abc import Callable, Iterator
from importlib import resources

from aiohttp import web

from gateway.config.settings import AdminSettings
from gateway.web.admin.request import AdminRequest, AdminRoute
from gateway.web.admin.responses import pages
from gateway.web.admin.static_files import read_files, send_file, serving

SECTIONS = ("teams", "activity", "cache", "alerts", "audit")
"""The first segments of the dashboard's addresses; the overview is at `/` itself."""


def dashboard_routes(admin: Callable[[], AdminSettings]) -> Iterator[AdminRoute]:
    """The routes of the page, at all of its addresses, and of the files that it loads.

    `admin` returns the current tokens.
    """
    files = dict(read_files(resources.files("gateway.web") / "assets"))
    page, off = files.pop("index.html"), files.pop("off.html")

    async def show(call: AdminRequest) -> web.Response:
        """The page, or how to switch the dashboard on where no token could open it."""
        if admin().all_tokens:
            return send_file(call.request, page)
        return send_file(call.request, off, 404)

    for name, file in files.items():
        yield from pages(f"/assets/{name}", serving(file))
    yield from pages("/", show)
    for section in SECTIONS:
        yield from pages(f"/{section}", show)
        yield from pages(f"/{section}/{{rest*}}", show)
