"""Writing teams and keys into a store as the operations do, by `commit`."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from gateway.core import key_format
from gateway.core.model import Key, KeyState, Team
from gateway.tenants.store import DirectoryStore, DirectoryWrite


async def put_teams(store: DirectoryStore, teams: Sequence[Team]) -> None:
    """Create or replace teams."""
    await write(store, DirectoryWrite(teams=teams))


async def put_key(store: DirectoryStore, key: Key) -> None:
    """Create or replace a key of an existing team."""
    await write(store, DirectoryWrite(keys=[key]))


async def set_state(store: DirectoryStore, id: str, state: KeyState) -> None:
    """Set the state of an existing key."""
    (key,) = (key for key in (await store.changes(0)).keys if key.id == id)
    await put_key(store, replace(key, state=state))


async def write(store: DirectoryStore, all_of_it: DirectoryWrite) -> None:
    """Write everything, and again if another writer was quicker."""
    while not await store.commit((await store.changes(0)).generation, all_of_it):
        pass


async def new_key(store: DirectoryStore, pepper: bytes, team: str, **fields: Any) -> str:
    """A new key of an existing team. `fields` are further ones of `Key`."""
    id, text = key_format.mint(secrets.token_bytes)
    digest = key_format.digest(text, pepper)
    named = {"name": "test", "created": time.time(), **fields}
    await put_key(store, Key(id=id, team=team, digest=digest, **named))
    return text
