"""A whole gateway with a real store and the sandbox, in this process.

This is only wiring and short cuts: every part is the real one.
"""

import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gateway.config.load import read_settings
from gateway.config.settings import Settings
from gateway.core import key_format
from gateway.core.model import NO_LIMITS, Key, Limits, Team, UsageRow
from gateway.quota.account import Account, team_account
from gateway.server.gateway import Gateway
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.directory import put_key, put_teams

UPSTREAM_KEY = "sk-upstream-" + secrets.token_hex(12)
ADMIN_TOKEN = "gw-admin-" + secrets.token_hex(16)
PROMPT = "A simple red apple on a white table, photorealistic"

FLAT = """
[models."gpt-image-2"]
prices = 0.04
"""
"""A configuration in which every image costs the same."""


class Rig:
    """A running gateway and its sandbox, with short cuts for tests."""

    def __init__(self, gateway: Gateway, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.sandbox = sandbox
        self.session = session

    @property
    def url(self) -> str:
        return self.gateway.url

    async def key(
        self,
        team: str = "team",
        *,
        expires: float | None = None,
        limits: Limits = NO_LIMITS,
        **policy: Any,
    ) -> str:
        """A new key of the team, which is created (or replaced) with these limits and policy."""
        await put_teams(self.gateway.store.directory, [Team(name=team, limits=limits, **policy)])
        return await self.further_key(team, expires=expires)

    async def further_key(
        self,
        team: str,
        *,
        expires: float | None = None,
        limits: Limits = NO_LIMITS,
        first: str | None = None,
    ) -> str:
        """A new key of an existing team, with its own limits, or in the line of the key `first`."""
        id, text = key_format.mint(secrets.token_bytes)
        digest = key_format.digest(text, self.gateway.pepper)
        await put_key(
            self.gateway.store.directory,
            Key(
                id=id,
                team=team,
                name="test",
                digest=digest,
                created=time.time(),
                expires=expires,
                limits=limits,
                first=first,
            ),
        )
        await self.gateway.directory.refresh()
        return text

    async def generate(
        self,
        key: str,
        prompt: str | None = PROMPT,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> "Got":
        """Ask for images. With `prompt` None it is a new one."""
        body = {"prompt": prompt or secrets.token_hex(8), **fields}
        return await self.post(key, headers=headers, json=body)

    async def post(self, key: str, *, headers: Mapping[str, str] | None = None, **kw: Any) -> "Got":
        """POST to the generations route: `json=` or `data=` as aiohttp takes them."""
        headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        url = f"{self.url}/v1/images/generations"
        async with self.session.post(url, headers=headers, **kw) as response:
            return await Got.read(response)

    async def get(self, path: str, key: str | None = None) -> "Got":
        """GET from the public port."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.get(self.url + path, headers=headers) as response:
            return await Got.read(response)

    async def admin(self, path: str) -> "Got":
        """GET from the admin port."""
        async with self.session.get(self.gateway.admin_url + path) as response:
            return await Got.read(response)

    async def ask_admin(
        self, method: str, path: str, token: str | None = ADMIN_TOKEN, **kw: Any
    ) -> "Got":
        """Ask the admin API; `json=`, `data=` and `headers=` as aiohttp takes them."""
        headers = {
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **kw.pop("headers", {}),
        }
        url = f"{self.gateway.admin_url}/admin/v1/{path}"
        async with self.session.request(method, url, headers=headers, **kw) as response:
            return await Got.read(response)

    async def account(self, team: str = "team") -> Account:
        """The team's account in the store."""
        loaded = await self.gateway.store.accounts.load([team_account(team)])
        return loaded.accounts[0][0]

    async def usage(self) -> UsageRow:
        """All usage, as one row."""
        await self.gateway.flush()
        rows = await self.gateway.store.usage.report((), None, None)
        if rows:
            return rows[0]
        return UsageRow(
            group=(),
            requests=0,
            images_bought=0,
            images_cached=0,
            images_unknown=0,
            cost=0,
            saved=0,
        )


class Got:
    """A response that has been read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, json: Any) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.json = json

    @classmethod
    async def read(cls, response: aiohttp.ClientResponse) -> "Got":
        body = await response.read()
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return cls(
            response.status, response.headers, body, await response.json() if is_json else None
        )

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, type and code of an error."""
        return self.status, self.json["error"]["type"], self.json["error"]["code"]


def settings_for(folder: Path, sandbox: Sandbox, toml: str = "", **environ: str) -> Settings:
    """Settings of a gateway on free ports, with its data in `folder`.

    `environ` takes names without their prefix: `SERVER_DRAIN_SECONDS="1"`.
    """
    variables = {
        "SERVER_PORT": "0",
        "SERVER_ADMIN_PORT": "0",
        "UPSTREAM_BASE_URL": sandbox.url,
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": f"sqlite:{folder / 'gateway.db'}",
        "KEYS_PEPPER_FILE": str(folder / "pepper"),
        "ADMIN_TOKEN": ADMIN_TOKEN,
        **environ,
    }
    prefixed = {f"GATEWAY_{name}": value for name, value in variables.items()}
    settings, _ = read_settings(toml, prefixed, needs_upstream=True)
    return settings


@asynccontextmanager
async def running_rig(
    folder: Path, toml: str = "", sandbox: SandboxSettings | None = None, **environ: str
) -> AsyncIterator[Rig]:
    """A rig that runs until the block ends. The sandbox draws dots by default."""
    async with Sandbox(sandbox or SandboxSettings(api_key=UPSTREAM_KEY, picture="dot")) as upstream:
        gateway = Gateway(settings_for(folder, upstream, toml, **environ))
        async with rig_of(gateway, upstream) as rig:
            yield rig


@asynccontextmanager
async def rig_of(gateway: Gateway, sandbox: Sandbox) -> AsyncIterator[Rig]:
    """A rig with this gateway, which runs until the block ends."""
    await gateway.start()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Rig(gateway, sandbox, session)
    finally:
        await gateway.stop()
