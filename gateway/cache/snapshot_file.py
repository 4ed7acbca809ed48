"""The memory cache on the disk, from the stop of one gateway to the start of the next.

One file, written in one go and put in place by a rename: a header, then a record for each answer,
the ones asked for last first (see `gateway.cache.codec`). So

- whoever stops early, for lack of time or because the rest is cut off, has the best part;
- a damaged record is passed over, and a file of another kind or version is not read at all;
- many small answers cost no more than a few large ones, unlike a file each.

Nothing is synced: after a power failure the checksums tell what did not reach the disk, and a lost
cache is only money saved less. Answers hold pictures and the upstream's `revised_prompt`, so the
file is its owner's alone; keys of entries are fingerprints.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from gateway.cache.codec import BESIDES_BYTES, HEAD_BYTES, Kept, decode, encode, payload_length

NAME = "answers"
MAGIC = b"image-gateway answers 1\n"
"""The number is raised whenever what a record holds, or what it means, becomes another."""

STALE_SECONDS = 60.0
"""A draft this old belongs to a process that was killed while it wrote."""


class Reading(Struct):
    """What a file gave: `kept`, the ones asked for last first; `damaged` records; `whole` is False
    where it was not read to its end.
    """

    kept: list[Kept]
    damaged: int = 0
    whole: bool = True


class Foreign(Exception):
    """A file of another kind or version of the gateway, or one that somebody else may write."""


def write(
    folder: Path,
    entries: Iterable[Kept],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Write as many of the entries as `seconds` suffice for, and tell how many. Raises OSError.

    The former file stays until the new one is there, also where writing fails. The folder is made
    (mode 0700) where it lacks.
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
    """The answers that have life left at `now`, up to `max_bytes` of them and for `seconds`.

    Nothing where there is no file. Raises OSError or Foreign.
    """
    ends, reading, room = clock() + seconds, Reading([]), max_bytes
    path = folder / NAME
    if not path.exists():
        return reading
    if not path.is_file():  # a pipe would be waited for
        raise Foreign
    with path.open("rb") as file:
        _require_own(file)
        if file.read(len(MAGIC)) != MAGIC:
            raise Foreign
        for kept in _records(file, max_entry_bytes + BESIDES_BYTES, reading):
            if clock() >= ends or (kept is not None and len(kept.bought.body) > room):
                reading.whole = False
                break
            if kept is not None and kept.expires > now:
                room -= len(kept.bought.body)
                reading.kept.append(kept)
    return reading


def _require_own(file: BinaryIO) -> None:
    """Raises Foreign where somebody else may have written the file: nothing in it is sealed."""
    found = os.fstat(file.fileno())
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Foreign


def _records(file: BinaryIO, longest: int, reading: Reading) -> Iterator[Kept | None]:
    """What each record holds; None for one that is damaged, which is counted in `reading`.

    Ends at a record that is cut off or whose length is wrong: nothing behind it can be found.
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
