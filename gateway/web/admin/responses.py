"""Answers of the admin port: JSON with the headers that keep it out of caches, and open pages."""

from collections.abc import Iterator, Mapping, Sequence

from aiohttp import web
from msgspec import Struct, json

from gateway.core.listing import listing
from gateway.web.admin.request import AdminHandler, AdminRoute

HEADERS = {
    "Content-Type": "application/json",
    "Server": "image-gateway",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


def answer(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON. A record appears in its public form."""
    body = json.encode(listing(value) if isinstance(value, Struct) else value)
    return web.Response(status=status, body=body, headers={**HEADERS, **(headers or {})})


def pages(
    path: str, handler: AdminHandler, methods: Sequence[str] = ("GET", "HEAD")
) -> Iterator[AdminRoute]:
    """The routes of a page that needs no token and is no part of the admin API."""
    for method in methods:
        yield AdminRoute(method, path, path, handler, is_open=True)
