"""The demo: a team, a key and an admin token that stay the same at every start, and the banner
with lines to paste.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
from msgspec.structs import replace

from gateway.config import admin_tokens
from gateway.config.settings import AdminSettings
from gateway.core import key_format
from gateway.core.listing import listing
from gateway.core.model import Key, Team
from gateway.server.startup import StartError, create_secret
from gateway.tenants.changes import Actor, commit, key_write, team_entry
from gateway.tenants.store import DirectoryChanges, DirectoryStore, DirectoryWrite

TEAM = "demo"
WHO = "gateway serve --demo"
"""In the audit log."""

REAL_IMAGES_PER_DAY = 10
"""The demo team's daily limit where a real upstream costs real money."""

PROMPT = "A simple red apple on a white table, photorealistic"
GENERATED = "A simple red apple"

LINK_SECONDS = 10.0
"""How long the demo waits for the picture that it shows."""


async def demo_team(store: DirectoryStore, *, real: bool) -> Team:
    """The demo team, created if it is missing or was deleted.

    In front of a real upstream it has a limit of images a day: the operator's, or else the demo's.
    Raises StoreUnavailable.
    """
    by = Actor(WHO, time.time())

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, Team]:
        known = {team.name: team for team in directory.teams}.get(TEAM)
        team = replace(known or Team(name=TEAM), deleted=False)
        if real and team.limits.images_per_day is None:
            limits = replace(team.limits, images_per_day=REAL_IMAGES_PER_DAY)
            team = replace(team, limits=limits)
        if team == known:
            return DirectoryWrite(), team
        before = None if known is None or known.deleted else listing(known)
        audit = [team_entry(by, TEAM, before, listing(team))]
        return DirectoryWrite(teams=[team], audit=audit), team

    return await commit(store, decide)


async def demo_key(store: DirectoryStore, pepper: bytes, file: Path) -> str:
    """The demo team's key from `file` (mode 0600), created if it is missing.

    A key that the store lacks is added to it: the same file works with the sandbox's store and
    with the real one. Raises StartError, StoreUnavailable.
    """
    text = _read_or_create(file, lambda: key_format.mint(secrets.token_bytes)[1])
    id = key_format.parse(text)
    if id is None:
        raise StartError(f"{file} does not hold a key. Delete it to get a new one.")
    by = Actor(WHO, time.time())
    digest = key_format.digest(text, pepper)
    key = Key(id=id, team=TEAM, name="demo", digest=digest, created=by.now)

    def decide(directory: DirectoryChanges) -> tuple[DirectoryWrite, str]:
        known = next((known for known in directory.keys if known.id == key.id), None)
        if known is None:
            return key_write(by, ("key.create", None, key)), text
        if known.state != "active":
            raise StartError(f"The demo key is {known.state}. Delete {file} to get a new one.")
        return DirectoryWrite(), text

    return await commit(store, decide)


def demo_token(admin: AdminSettings, file: Path) -> tuple[AdminSettings, str | None]:
    """The admin settings with the demo's token added, and its text.

    If tokens are configured, nothing is added and the text is None. The token comes from `file`
    (mode 0600), which is created if it is missing. Raises StartError.
    """
    if admin.all_tokens:
        return admin, None
    text = _read_or_create(file, lambda: admin_tokens.mint(secrets.token_bytes))
    if not admin_tokens.is_minted(text):
        raise StartError(f"{file} does not hold an admin token. Delete it to get a new one.")
    token = admin_tokens.AdminToken(name=TEAM, role="admin", digest=admin_tokens.digest(text))
    return replace(admin, tokens={TEAM: token}), text


def _read_or_create(file: Path, create: Callable[[], str]) -> str:
    """The content of the file; a missing file is created."""
    try:
        if not file.exists():
            create_secret(file, create())
        return file.read_text().strip()
    except OSError as error:
        raise StartError(f"The demo's file {file} cannot be used: {error.strerror}.") from None


async def picture_link(url: str, key: str) -> str | None:
    """A link to a picture that the gateway at this URL has bought, to open in a browser.

    None if that fails: clients would then see why.
    """
    body = {"prompt": GENERATED, "response_format": "url"}
    headers, limit = {"Authorization": f"Bearer {key}"}, aiohttp.ClientTimeout(total=LINK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(f"{url}/v1/images/generations", json=body, headers=headers) as response,
        ):
            return str((await response.json())["data"][0]["url"])
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError):
        return None


def banner(
    url: str,
    admin_url: str,
    key: str,
    team: Team,
    token: str | None,
    *,
    real: bool,
    program: str = "gateway",
    link: str | None = None,
) -> str:
    """The text that the demo prints at every start. Each part works as pasted.

    `token` is None if the operator configured tokens, which are never printed. `program` starts
    this program in a shell. `link` shows a picture.
    """
    sign_in = "Sign in    with your own admin token" if token is None else f"Token      {token}"
    cost = f"images cost money; the demo team may buy {team.limits.images_per_day} a day"
    play = "images are free, their prices play money"
    upstream = f"a real upstream ({cost})" if real else f"the built-in sandbox ({play})"
    body = f'{{"model":"gpt-image-2","prompt":"{PROMPT}","size":"1024x1024","n":1}}'
    generate = f'{program} generate "{GENERATED}" --url {url}/v1'
    shown = f"Such a picture, in a browser:\n\n{link}\n\n" if link else ""
    headers = f'-H "Authorization: Bearer {key}" -H "Content-Type: application/json"'
    return f"""
The image gateway is running, in front of {upstream}.

  Base URL   {url}/v1
  Key        {key}
  Dashboard  {admin_url}/
  {sign_in}
  Metrics    {admin_url}/metrics

A picture into a file, from this folder:

{generate}

{shown}The answer itself, with curl:

curl -sS {url}/v1/images/generations {headers} -d '{body}'

And with the official OpenAI client (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")
answer = client.images.generate(model="gpt-image-2", prompt="{PROMPT}")
image = answer.data[0]
print(image.url or f"{{len(image.b64_json)}} characters of base64")

Ctrl-C stops it.
"""
