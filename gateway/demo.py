"""What a newcomer is given: a team, a key that is the same at every start, and lines to paste."""

import os
import secrets
import time
from pathlib import Path

from gateway.model import Key, Limits, Team
from gateway.opening import StartError
from gateway.ports import DirectoryStore
from gateway.rules import keys

TEAM = "demo"

REAL_IMAGES_PER_DAY = 10
"""What the demo team may buy a day from a real upstream: real money."""

PROMPT = "A simple red apple on a white table, photorealistic"


async def demo_key(store: DirectoryStore, pepper: bytes, file: Path, *, real: bool) -> str:
    """The demo team's key, kept in `file` (mode 0600); team and key are made where they lack.

    The key is entered into the store again if it is not there, so that the one in the file works
    with the sandbox's store and with the real one. Raises StartError, StoreUnavailable.
    """
    known = await store.changes(0)
    if TEAM not in (team.name for team in known.teams):
        limits = Limits(images_per_day=REAL_IMAGES_PER_DAY) if real else Limits()
        await store.put_teams([Team(name=TEAM, limits=limits)])
    text = _kept_key(file)
    id = keys.parse(text)
    if id is None:
        raise StartError(f"{file} does not hold a key. Delete it to get a new one.")
    if id not in (key.id for key in known.keys):
        await store.put_key(
            Key(
                id=id, team=TEAM, name="demo", digest=keys.digest(text, pepper), created=time.time()
            )
        )
    return text


def _kept_key(file: Path) -> str:
    try:
        if not file.exists():
            _, text = keys.mint(secrets.token_bytes)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(text + "\n")
        return file.read_text().strip()
    except OSError as error:
        raise StartError(f"The demo key file {file} cannot be used: {error.strerror}.") from None


def banner(url: str, admin_url: str, key: str, *, real: bool) -> str:
    """What is printed at every start. Each part works as pasted."""
    cost = f"images cost money; the demo team may buy {REAL_IMAGES_PER_DAY} a day"
    upstream = f"a real upstream ({cost})" if real else "the built-in sandbox (images are free)"
    body = f'{{"model":"gpt-image-2","prompt":"{PROMPT}","size":"1024x1024","n":1}}'
    headers = f'-H "Authorization: Bearer {key}" -H "Content-Type: application/json"'
    return f"""
The image gateway is running, in front of {upstream}.

  Base URL   {url}/v1
  Key        {key}
  Metrics    {admin_url}/metrics

An image with curl:

curl -sS {url}/v1/images/generations {headers} -d '{body}'

And with the official OpenAI client (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")
answer = client.images.generate(model="gpt-image-2", prompt="{PROMPT}")
image = answer.data[0]
print(image.url or f"{{len(image.b64_json)}} characters of base64")

Ctrl-C stops it.
"""
