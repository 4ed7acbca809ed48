"""Writing teams and keys into a store as the operations do, by `commit`."""

from collections.abc import Sequence

from msgspec.structs import replace

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
