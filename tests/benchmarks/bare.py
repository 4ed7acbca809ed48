"""The server that the gateway is compared with: plain aiohttp.

python -m tests.benchmarks.bare UPSTREAM_URL

It has no keys, quotas, log, metrics or checks: `/proxy` forwards a request and its answer, `/cache`
keeps answers in a dictionary by request body. It is a quick proxy as anybody would write it with
aiohttp: two routes, no access log, one client session with kept connections, whole bodies.
"""

import sys

import aiohttp
from aiohttp import web

from tests.benchmarks.processes import listen, serve

_HEADERS = {"Content-Type": "application/json"}


class Bare:
    """A pass-through proxy and a cache for the upstream at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: dict[bytes, bytes] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=300),
            auto_decompress=False,
        )

    async def proxy(self, request: web.Request) -> web.Response:
        """Forward the request, and return its answer."""
        status, answer = await self._ask(await request.read())
        return web.Response(status=status, body=answer, headers=_HEADERS)

    async def cache(self, request: web.Request) -> web.Response:
        """The cached answer to this body; the first one is bought."""
        answer = await self._cached(await request.read())
        return web.Response(body=answer, headers=_HEADERS)

    async def _cached(self, body: bytes) -> bytes:
        kept = self._kept.get(body)
        if kept is None:
            _, kept = await self._ask(body)
            self._kept[body] = kept
        return kept

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        async with self._session.post(self._url, data=body, headers=_HEADERS) as response:
            return response.status, await response.read()


async def start(url: str) -> int:
    """Listen on a free port and return it."""
    bare, app = Bare(url), web.Application()
    app.router.add_post("/proxy", bare.proxy)
    app.router.add_post("/cache", bare.cache)
    return await listen(app)


if __name__ == "__main__":
    serve(start(sys.argv[1]))
