"""Exporting a store into an archive and importing it into another one.

The lines are made and read by `gateway.stores.archive_format`; here they meet files and stores.
Whatever cannot be done raises OperationError, with a text of one line.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from gateway import __version__
from gateway.core.key_format import pepper_check
from gateway.stores.archive_format import (
    LINE_BYTES,
    CheckRecord,
    NotRestored,
    Reader,
    Record,
    Writer,
)
from gateway.stores.port import ArchiveStore
from gateway.tenants.changes import OperationError

PEPPER = "pepper"
"""The check value that tells whether keys can be recognised."""


async def export_store(
    store: ArchiveStore, write: Callable[[bytes], object], now: float
) -> Mapping[str, int]:
    """Write all that the store holds; how many records of each kind there were.

    Raises StoreUnavailable, and what `write` raises.
    """
    writer = Writer()
    write(writer.header(made=now, gateway=__version__))
    async with aclosing(store.export()) as batches:
        async for batch in batches:
            write(writer.lines(batch))
    write(writer.footer())
    return writer.counts


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file of mode 0600 to write to. It gets its name only when the block ends in peace.

    A former file of this name stays until then. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise


class Archive:
    """An archive that was opened and found to be one, for keys with this pepper.

    `done` is told how many bytes each line read has. Raises OperationError, and OSError where the
    file cannot be read.
    """

    def __init__(
        self, file: BinaryIO, pepper: bytes, done: Callable[[int], object] = lambda number: None
    ) -> None:
        with _refusing():
            self._reader = Reader(_lines(file, done))
            rest = iter(self._reader)
            first = next(rest, None)
        if not isinstance(first, CheckRecord) or first.check != PEPPER:
            raise OperationError("The archive does not say with which pepper its keys were made.")
        if first.value != pepper_check(pepper):
            raise OperationError(
                "The archive's keys were made with another pepper: bring that one along, as "
                "[keys] pepper_file or GATEWAY_KEYS_PEPPER."
            )
        self._records: Iterator[Record] = chain((first,), rest)

    async def restore(self, store: ArchiveStore) -> Mapping[str, int]:
        """Have an empty store take it over; how many records of each kind there were.

        Raises OperationError and StoreUnavailable; then the store is as it was.
        """
        with _refusing():
            await store.restore(self._records)
        return self._reader.counts


def _lines(file: BinaryIO, done: Callable[[int], object]) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES):
        done(len(line))
        yield line


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except NotRestored as error:
        raise OperationError(str(error)) from error
