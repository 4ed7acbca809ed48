"""A whole gateway with a real store and the sandbox, in this process.

This is only wiring and short cuts: every part is the real one.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from gateway.config.load import read_settings
from gateway.config.settings import Settings
from gateway.core.errors import StoreUnavailable
from gateway.core.model import NO_LIMITS, Limits, Team, UsageRow
from gateway.quota.account import GATEWAY, Account, team_account
from gateway.server.gateway import Gateway
from gateway.stores.port import Store
from gateway.upstream.sandbox import Sandbox, SandboxSettings
from tests.support.directory import new_key, put_teams

UPSTREAM_KEY = "sk-upstream-" + secrets.token_hex(12)
ADMIN_TOKEN = "gw-admin-" + secrets.token_hex(16)
PROMPT = "A simple red apple on a white table, photorealistic"

FLAT = """
[models."gpt-image-2"]
prices = 0.04
"""
"""A configuration in which every image costs the same."""

PRICE = 40_000
"""The price of an image in `FLAT`, in micro-dollars."""


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


class Client:
    """A client of the gateway whose ports have these URLs."""

    def __init__(self, session: aiohttp.ClientSession, url: str = "", admin_url: str = "") -> None:
        self.session = session
        self.url = url
        self.admin_url = admin_url

    async def generate(
        self,
        key: str,
        prompt: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Got:
        """Ask for images. Without a prompt it is a new one."""
        body = {"prompt": prompt or secrets.token_hex(8), **fields}
        return await self.post(key, headers=headers, json=body)

    async def post(self, key: str, *, headers: Mapping[str, str] | None = None, **kw: Any) -> Got:
        """POST to the generations route: `json=` or `data=` as aiohttp takes them."""
        headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        url = f"{self.url}/v1/images/generations"
        async with self.session.post(url, headers=headers, **kw) as response:
            return await Got.read(response)

    async def get(self, path: str, key: str | None = None) -> Got:
        """GET from the public port."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.get(self.url + path, headers=headers) as response:
            return await Got.read(response)

    async def models(self, key: str) -> Got:
        """Ask which models a key may use: an authentication that costs nothing."""
        return await self.get("/v1/models", key)

    async def admin(self, path: str) -> Got:
        """GET from the admin port."""
        async with self.session.get(self.admin_url + path) as response:
            return await Got.read(response)

    async def ask_admin(
        self, method: str, path: str, token: str | None = ADMIN_TOKEN, **kw: Any
    ) -> Got:
        """Ask the admin API; `json=`, `data=` and `headers=` as aiohttp takes them."""
        headers = {
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **kw.pop("headers", {}),
        }
        url = f"{self.admin_url}/admin/v1/{path}"
        async with self.session.request(method, url, headers=headers, **kw) as response:
            return await Got.read(response)


class Books:
    """The accounts and the usage in a store, and checks that they agree."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def account(self, team: str = "team") -> Account:
        """The team's account."""
        return await self._account(team_account(team))

    async def gateway_account(self) -> Account:
        """The gateway-wide account."""
        return await self._account(GATEWAY)

    async def is_closed(self, team: str = "team") -> bool:
        """Whether the store answers and the team has no open holds."""
        try:
            return not (await self.account(team)).holds
        except StoreUnavailable:
            return False

    async def usage(self, team: str | None = None) -> UsageRow:
        """All usage, or the team's, as one row."""
        rows = await self.store.usage.report((), None, None, team)
        return rows[0] if rows else UsageRow(group=())

    async def assert_books(self, images: int, cost: int | None = None, team: str = "team") -> None:
        """Check that account and usage agree on these purchases, and that nothing is held.

        Without a cost, images are at `PRICE`.
        """
        cost = images * PRICE if cost is None else cost
        assert_spent(await self.account(team), images, cost)
        usage = await self.usage(team)
        assert (usage.images_bought, usage.cost) == (images, cost)

    async def _account(self, name: str) -> Account:
        return (await self.store.accounts.load([name])).accounts[0][0]


def assert_spent(account: Account, images: int, cost: int) -> None:
    """Check that the account has spent this today and this month, and holds nothing."""
    assert not account.holds
    for window in (account.day, account.month):
        assert (window.images, window.cost) == (images, cost)
        assert (window.held_images, window.held_cost) == (0, 0)


class Rig(Client, Books):
    """A running gateway and its sandbox, with short cuts for tests."""

    def __init__(self, gateway: Gateway, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        Client.__init__(self, session, gateway.url, gateway.admin_url)
        Books.__init__(self, gateway.store)
        self.gateway = gateway
        self.sandbox = sandbox

    async def key(
        self,
        team: str = "team",
        *,
        expires: float | None = None,
        limits: Limits = NO_LIMITS,
        **policy: Any,
    ) -> str:
        """A new key of the team, which is created (or replaced) with these limits and policy."""
        await put_teams(self.store.directory, [Team(name=team, limits=limits, **policy)])
        return await self.further_key(team, expires=expires)

    async def further_key(self, team: str, **fields: Any) -> str:
        """A new key of an existing team. `fields` are further ones of `Key`."""
        key = await new_key(self.store.directory, self.gateway.pepper, team, **fields)
        await self.gateway.directory.refresh()
        return key

    async def generate(self, key: str, prompt: str | None = PROMPT, **kw: Any) -> Got:
        """Ask for images, by default with the same prompt. With `prompt` None it is a new one."""
        return await super().generate(key, prompt, **kw)

    async def usage(self, team: str | None = None) -> UsageRow:
        await self.gateway.flush()
        return await super().usage(team)


class HasUrl(Protocol):
    """A server such as a sandbox."""

    @property
    def url(self) -> str: ...


def environ_for(folder: Path, upstream: HasUrl, **environ: str) -> dict[str, str]:
    """The environment of a gateway on free ports, with its data in `folder`.

    `environ` takes names without their prefix: `SERVER_DRAIN_SECONDS="1"`.
    """
    variables = {
        "SERVER_PORT": "0",
        "SERVER_ADMIN_PORT": "0",
        "UPSTREAM_BASE_URL": upstream.url,
        "UPSTREAM_API_KEY": UPSTREAM_KEY,
        "STORE_URL": f"sqlite:{folder / 'gateway.db'}",
        "KEYS_PEPPER_FILE": str(folder / "pepper"),
        "IMAGES_URL": f"file:{folder / 'images'}",
        "ADMIN_TOKEN": ADMIN_TOKEN,
        **environ,
    }
    return {f"GATEWAY_{name}": value for name, value in variables.items()}


def settings_for(folder: Path, upstream: HasUrl, toml: str = "", **environ: str) -> Settings:
    """Settings of a gateway in this environment."""
    settings, _ = read_settings(toml, environ_for(folder, upstream, **environ), needs_upstream=True)
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
