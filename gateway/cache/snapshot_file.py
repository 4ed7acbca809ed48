"""The file that holds the memory cache from the stop of a gateway to its next start.

It is written in one go and put in place by a rename: a header, then a record for each answer, the
latest used first (see `gateway.cache.codec`).

- A reader or writer that stops early, for lack of time or because the file is cut off, has the
  most useful part.
- A damaged record is skipped. A file of another kind or version is not read at all.
- One file is faster than a file for each answer where answers are many and small.

Nothing is synced: after a power failure the checksums reveal lost parts, and a lost cache only
costs savings. Answers hold images and the upstream's `revised_prompt`, so only the owner can read
the file. Keys of entries are fingerprints.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from gateway.cache.codec import (
    HEAD_BYTES,
    OVERHEAD_BYTES,
    CachedAnswer,
    decode,
    encode,
    payload_length,
)

NAME = "answers"
MAGIC = b"image-gateway answers 1\n"
"""The number is raised whenever the content or the meaning of a record changes."""

STALE_SECONDS = 60.0
"""A draft of this age was left by a process that was killed while it wrote."""


class Reading(Struct):
    """The content of a file: the answers, latest used first, and the number of damaged records.
    `whole` is False if the file was not read to its end.
    """

    kept: list[CachedAnswer]
    damaged: int = 0
    whole: bool = True


class Foreign(Exception):
    """The file has another kind or version, or another user may write to it."""


def write(
    folder: Path,
    entries: Iterable[CachedAnswer],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Write as many entries as possible within `seconds` and return their number. Raises OSError.

    The former file stays until the new one is complete, also if writing fails. A missing folder
    is created (mode 0700).
    """
    ends = clock() + seconds
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(folder)
    draft = folder / f"{NAME}.{os.getpid()}.draft"
    draft.unlink(missing_ok=True)
    try:
        with open(draft, "xb", opener=_private) as file:
            file.write(MAGIC)
            written = 0
            for entry in entries:
                if clock() >= ends:
                    break
                file.write(encode(entry))
                written += 1
        draft.rename(folder / NAME)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    return written


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove_stale(folder: Path) -> None:
    for draft in folder.glob(f"{NAME}.*.draft"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > STALE_SECONDS:
                draft.unlink()


def read(
    folder: Path,
    now: float,
    *,
    max_bytes: int,
    max_entry_bytes: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Reading:
    """The answers that have not expired at `now`: at most `max_bytes`, read within `seconds`.

    Empty if there is no file. Raises OSError or Foreign.
    """
    ends, reading, room = clock() + seconds, Reading([]), max_bytes
    path = folder / NAME
    if not path.exists():
        return reading
    if not path.is_file():  # reading a pipe would block
        raise Foreign
    with path.open("rb") as file:
        _require_own(file)
        if file.read(len(MAGIC)) != MAGIC:
            raise Foreign
        for kept in _records(file, max_entry_bytes + OVERHEAD_BYTES, reading):
            if clock() >= ends or (kept is not None and len(kept.bought.body) > room):
                reading.whole = False
                break
            if kept is not None and kept.expires > now:
                room -= len(kept.bought.body)
                reading.kept.append(kept)
    return reading


def _require_own(file: BinaryIO) -> None:
    """Raise Foreign if another user may have written the file: nothing in it is sealed."""
    found = os.fstat(file.fileno())
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Foreign


def _records(file: BinaryIO, longest: int, reading: Reading) -> Iterator[CachedAnswer | None]:
    """The answer of each record; None for a damaged one, which is counted in `reading`.

    It ends at a record that is cut off or has a wrong length: later records cannot be located.
    """
    while head := file.read(HEAD_BYTES):
        length = payload_length(head)
        payload = file.read(length) if length <= longest else b""
        if not payload or len(payload) < length:
            reading.damaged += 1
            reading.whole = False
            return
        kept = decode(head, payload)
        reading.damaged += kept is None
        yield kept
