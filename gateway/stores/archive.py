"""Exports a store into an archive, and imports an archive into another store.

`gateway.stores.archive_format` makes and reads the lines. Failures raise OperationError, with a
text of one line.
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
from gateway.stores.archive_format import LINE_BYTES, ArchiveReader, ArchiveWriter, CheckRecord
from gateway.stores.port import ArchiveStore
from gateway.tenants.changes import OperationError

PEPPER = "pepper"
"""The name of the check value by which a pepper is recognised."""


_COUNTED = {
    "team": ("team", "teams"),
    "key": ("key", "keys"),
    "account": ("account", "accounts"),
    "change": ("audit entry", "audit entries"),
    "entry": ("usage entry", "usage entries"),
}


def summary(counts: Mapping[str, int]) -> str:
    """Return an archive's contents as people read them, such as `1 team, 3 keys`."""
    numbers = [(counts.get(kind, 0), words) for kind, words in _COUNTED.items()]
    return ", ".join(f"{number:,} {words[number != 1]}" for number, words in numbers)


async def export_store(
    store: ArchiveStore, write: Callable[[bytes], object], now: float
) -> Mapping[str, int]:
    """Write the whole store as an archive; return how many records of each kind it has.

    Raises StoreUnavailable, and what `write` raises.
    """
    writer = ArchiveWriter()
    write(writer.header(made=now, gateway=__version__))
    async with aclosing(store.export()) as batches:
        async for batch in batches:
            write(writer.lines(batch))
    write(writer.footer())
    return writer.counts


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file of mode 0600 to write to. It gets its name only when the block succeeds.

    An earlier file of this name stays until then. Raises OSError.
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
    """An open archive whose header is valid and whose keys belong to this pepper.

    `done` receives the length of each line read, in bytes. Raises OperationError, and OSError
    where the file cannot be read.
    """

    def __init__(
        self, file: BinaryIO, pepper: bytes, done: Callable[[int], object] = lambda number: None
    ) -> None:
        self._reader = ArchiveReader(_lines(file, done))
        rest = iter(self._reader)
        first = next(rest, None)
        if not isinstance(first, CheckRecord) or first.check != PEPPER:
            raise OperationError("The archive does not say which pepper its keys were made with.")
        if first.value != pepper_check(pepper):
            raise OperationError(
                "The archive's keys were made with another pepper: provide that one as "
                "[keys] pepper_file or GATEWAY_KEYS_PEPPER."
            )
        self._records = chain((first,), rest)

    async def restore(self, store: ArchiveStore) -> Mapping[str, int]:
        """Import it into an empty store; return how many records of each kind it has.

        Where it raises OperationError or StoreUnavailable, the store is as it was before.
        """
        await store.restore(self._records)
        return self._reader.counts


def _lines(file: BinaryIO, done: Callable[[int], object]) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES):
        done(len(line))
        yield line
