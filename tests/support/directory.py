"""Short ways to write teams and keys into a store, as the operations do it: by `commit`."""

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.core.model import Key, KeyState, Team
from gateway.tenants.store import DirectoryStore, DirectoryWrite


async def put_teams(store: DirectoryStore, teams: Sequence[Team]) -> None:
    """Create or replace teams."""
    await write(store, DirectoryWrite(teams=teams))


async def put_key(store: DirectoryStore, key: Key) -> None:
    """Create or replace a key, whose team must exist."""
    await write(store, DirectoryWrite(keys=[key]))


async def set_state(store: DirectoryStore, id: str, state: KeyState) -> None:
    """Set the state of a key, which must exist."""
    (key,) = (key for key in (await store.changes(0)).keys if key.id == id)
    await put_key(store, replace(key, state=state))


async def write(store: DirectoryStore, all_of_it: DirectoryWrite) -> None:
    """Write all of it, whoever writes meanwhile."""
    while not await store.commit((await store.changes(0)).generation, all_of_it):
        pass
