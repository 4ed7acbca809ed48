"""Opening what lies on the disk: the pepper and the store, checked against each other.

Serving and the command line come in through here, so both refuse the same things in the same
words.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from gateway.errors import StoreUnavailable
from gateway.rules.keys import pepper_check
from gateway.rules.settings import PEPPER_BYTES, Keys, Settings
from gateway.stores.faults import UnusableStore
from gateway.stores.sqlite import SqliteStore


class StartError(Exception):
    """Why the gateway cannot start, in one line for whoever started it."""


def load_pepper(keys: Keys, store: Path | None = None) -> bytes:
    """The pepper of the environment or of its file, which is made at the first call (mode 0600).

    Where the database `store` is there already, a pepper that lacks is missing: a new one would
    not open it. Raises StartError.
    """
    if keys.pepper is not None:
        return keys.pepper.reveal().encode()
    path = Path(keys.pepper_file)
    try:
        if not path.exists():
            if store is not None and store.exists():
                raise StartError(
                    f"The pepper file {path} is missing, and the database {store} was made with "
                    "it. Restore it from the back-up."
                )
            _create_pepper(path)
        pepper = path.read_bytes().strip()
    except OSError as error:
        named = f" ({error.filename})" if error.filename != str(path) else ""
        raise StartError(
            f"The pepper file {path} cannot be used: {error.strerror}{named}."
        ) from None
    if len(pepper) < PEPPER_BYTES:
        raise StartError(f"The pepper file {path} holds fewer than {PEPPER_BYTES} bytes.")
    return pepper


def _create_pepper(path: Path) -> None:
    """Write a new pepper so that two processes starting at once end up with the same one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # unlike a rename, this never replaces one that is there
    except FileExistsError:
        return
    finally:
        draft.unlink()


async def open_store(
    settings: Settings,
    pepper: bytes,
    observe: Callable[[str, float, bool], None] | None = None,
) -> SqliteStore:
    """The configured store, open. Raises StartError, also where the pepper is not its own."""
    store = SqliteStore(Path(settings.store.path), observe=observe)
    try:
        await store.open()
        if await store.check_value("pepper", pepper_check(pepper)):
            return store
        raise UnusableStore(
            f"The pepper does not belong to the database {settings.store.path}: "
            "its keys were made with another one. Restore both from one back-up."
        )
    except UnusableStore as error:
        await store.close()
        raise StartError(str(error)) from None
    except StoreUnavailable:
        await store.close()
        raise StartError(f"The database {settings.store.path} is locked or damaged.") from None
