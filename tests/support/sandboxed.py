"""A running sandbox and a plain client of it."""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.rig import Got

KEY = "sk-upstream-0123456789abcdef"
PATH = "/api/v1/images/generations"
PROMPT = "A simple red apple on a white table, photorealistic"


class Asker:
    """A running sandbox with short cuts for tests."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.session = session

    async def ask(self, prompt: object = PROMPT, **fields: object) -> Got:
        """Ask for images of gpt-image-2."""
        return await self.post(json={"model": "gpt-image-2", "prompt": prompt, **fields})

    async def post(self, *, headers: Mapping[str, str] | None = None, **kw: Any) -> Got:
        """POST to the generations route: `json=` or `data=` as aiohttp takes them."""
        if headers is None:
            headers = {"Authorization": f"Bearer {KEY}"}
        return await self.call("POST", PATH, headers=headers, **kw)

    async def call(self, method: str, path: str, **kw: Any) -> Got:
        """Any request. Redirects are not followed."""
        async with self.session.request(
            method, self.sandbox.url + path, allow_redirects=False, **kw
        ) as response:
            return await Got.read(response)

    async def fetch(self, url: str) -> Got:
        """GET a URL as it is."""
        async with self.session.get(url) as response:
            return await Got.read(response)


@asynccontextmanager
async def asking(sandbox: Sandbox) -> AsyncIterator[Asker]:
    """The sandbox, running until the block ends."""
    async with (
        sandbox,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Asker(sandbox, session)


def dots(**settings: Any) -> SandboxSettings:
    """Settings of a sandbox that draws dots."""
    return SandboxSettings(**{"api_key": KEY, "picture": "dot", **settings})


def images(got: Got) -> list[bytes]:
    """The pictures of an answer in base64."""
    return [base64.b64decode(image["b64_json"], validate=True) for image in got.json["data"]]
