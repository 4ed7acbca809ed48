"""Opening what outlives the process: the pepper and the store, checked against each other.

Serving and the command line come in through here, so both refuse the same things in the same
words.
"""

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from gateway.config.settings import PEPPER_BYTES, KeySettings, Settings
from gateway.config.store_url import StoreUrl
from gateway.core.errors import StoreUnavailable
from gateway.core.key_format import pepper_check
from gateway.stores.faults import UnusableStore
from gateway.stores.port import Store
from gateway.stores.redis import RedisStore
from gateway.stores.sqlite import SqliteStore


class StartError(Exception):
    """Why the gateway cannot start, in one line for whoever started it."""


Observe = Callable[[str, float, bool], None]
"""Told of every operation of a store: its name, seconds, and whether the store was there."""


def load_pepper(keys: KeySettings, place: StoreUrl) -> bytes:
    """The pepper of the environment or of its file, which is made at the first call (mode 0600).

    It is never made where the store may have been made with another one already: where there is
    the database at `place`, or where that is shared by several gateways. Raises StartError.
    """
    path = Path(keys.pepper_file)
    with _telling(path):
        if keys.pepper is None and not path.exists():
            _require_blank(place, path)
            _create_pepper(path)
    return load_kept_pepper(keys)


def load_kept_pepper(keys: KeySettings) -> bytes:
    """The pepper of the environment or of its file, which must be there. Raises StartError."""
    if keys.pepper is not None:
        return keys.pepper.reveal().encode()
    path = Path(keys.pepper_file)
    with _telling(path):
        pepper = path.read_bytes().strip()
    if len(pepper) < PEPPER_BYTES:
        raise StartError(f"The pepper file {path} holds fewer than {PEPPER_BYTES} bytes.")
    return pepper


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        named = f" ({error.filename})" if error.filename != str(path) else ""
        raise StartError(
            f"The pepper file {path} cannot be used: {error.strerror}{named}."
        ) from None


def _require_blank(place: StoreUrl, pepper: Path) -> None:
    if place.kind != "sqlite":
        raise StartError(
            f"The pepper file {pepper} is missing, and gateways that share a Redis need the same "
            "pepper: give it to each of them, in that file or as GATEWAY_KEYS_PEPPER."
        )
    if Path(place.path).exists():
        raise StartError(
            f"The pepper file {pepper} is missing, and the database {place.path} was made with "
            "it. Restore it from the back-up."
        )


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


async def open_store(settings: Settings, pepper: bytes, observe: Observe | None = None) -> Store:
    """The configured store, open. Raises StartError, also where the pepper is not its own."""
    place = settings.store.place
    store = _store_at(place, observe)
    try:
        with _telling_of_store(place):
            await store.open()
            if await store.check_value("pepper", pepper_check(pepper)):
                return store
            raise UnusableStore(
                f"The pepper does not belong to the store {place.shown}: "
                "its keys were made with another one. Restore both from one back-up."
            )
    except StartError:
        await store.close()
        raise


@asynccontextmanager
async def unopened_store(settings: Settings) -> AsyncIterator[Store]:
    """The configured store to be restored into, closed when the block ends. Raises StartError."""
    store = _store_at(settings.store.place, None)
    try:
        with _telling_of_store(settings.store.place):
            yield store
    finally:
        await store.close()


@contextmanager
def _telling_of_store(place: StoreUrl) -> Iterator[None]:
    try:
        yield
    except UnusableStore as error:
        raise StartError(str(error)) from None
    except StoreUnavailable as error:
        raise StartError(f"The store {place.shown} cannot be reached: {_why(error)}.") from None


def _why(error: StoreUnavailable) -> str:
    cause = error.__cause__
    if cause is None or isinstance(cause, TimeoutError):
        return "it did not answer in time"
    return str(cause).rstrip(".") or type(cause).__name__


def _store_at(place: StoreUrl, observe: Observe | None) -> Store:
    if place.kind == "sqlite":
        return SqliteStore(Path(place.path), observe=observe)
    return RedisStore(place, observe=observe)
