"""The files of the image store: one for each picture, and one for each cached answer.

1. *A process is killed while it writes.* It writes a draft in the same folder and renames it, so no
   half file has a name. Drafts of dead processes are removed by their age.
2. *Power fails.* Nothing is synced, so a file may be cut off or hold zeros. Whoever reads it checks
   it: a picture's name is its hash, and answers have a seal.
3. *Several processes use the folder.* A file that is gone is a miss. The last use of a file is its
   time of modification, so that all processes see it. Each process counts the bytes that it knows,
   and `scan` learns of the others' files: between two scans the limit holds approximately.
4. *A file is removed while another thread writes it again.* Both do so under one lock.

The folder has two-character folders in it, because a folder with 100,000 files is slow on many file
systems. All methods block: run them in a thread. Times are seconds since the epoch.
"""

import errno
import os
import re
import secrets
import stat
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from io import BufferedReader
from itertools import count
from pathlib import Path
from threading import Lock

from msgspec import Struct

from gateway.images.picture import HEAD_BYTES, MIME, digest_of, kind_of
from gateway.images.place import MOST_PICTURE_BYTES, USE_SECONDS, Known, NotKept
from gateway.telemetry.observer import NotKeptReason

THREADS = 4
"""How many calls may run at once; for links, how many pictures are hashed at once."""

ANSWER = "answer"
"""The ending of cached answers. Their names are fingerprints, with the mark of their seal."""

STALE_SECONDS = 60.0
"""A draft of this age was left by a process that is gone."""

RECENT_SECONDS = 60.0
"""A file that was used so recently is not removed for others. The pictures of one answer are kept
one after another, and the answer links to all of them."""

BLOCK_BYTES = 4_096
"""Files take whole blocks of most disks."""

_FOLDER = re.compile(r"[0-9a-f]{2}", re.ASCII)
_NAME = re.compile(rf"[0-9a-f]{{64}}\.(?:{'|'.join(MIME)}|[0-9a-f]{{1,64}}\.{ANSWER})", re.ASCII)
_DRAFT = ".draft"

_REASONS: dict[int | None, NotKeptReason] = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",
    errno.EROFS: "not_permitted",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.ENOENT: "folder_missing",
    errno.ENOTDIR: "folder_missing",
}


class _Entry(Struct, gc=False):
    """A file. `dated` is its time, and `used` the last use that this process knows of.

    `sound`: this process wrote it, so it was whole.
    """

    bytes: int
    dated: float
    used: float
    sound: bool = False


class Files:
    """The files in `folder`, the least recently used first. `evicted` counts removed ones."""

    threads = THREADS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = str(folder)
        self.evicted = Counter[str]()
        self._entries = OrderedDict[str, _Entry]()
        self._bytes = 0
        self._lock = Lock()
        # Process ids are no help: in containers that share the folder they are all 1.
        self._writer = secrets.token_hex(4)
        self._drafts = count()
        # Inode, time and size of the pictures whose hash was right.
        self._checked = Known[tuple[int, int, int]]()

    @property
    def total(self) -> int:
        """Bytes of all known files, in whole blocks."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    # -- one file -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the folder if it is missing, and check that it can be written. Raises NotKept."""
        probe = self.folder / f".{self._writer}.{next(self._drafts)}{_DRAFT}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(probe, "xb", opener=_private):
                probe.unlink()
        except OSError as error:
            raise _not_kept(error) from None

    def write(self, name: str, data: bytes, now: float, most: int) -> None:
        """Write a file, and remove others where all would have more than `most` bytes.

        Raises NotKept, also where all others were just used. A folder that is gone is not created
        again: a disk may be mounted there.
        """
        if _blocks(len(data)) > most:
            raise NotKept("too_large")
        path = self._path(name)
        draft = path.with_name(f".{name}.{self._writer}.{next(self._drafts)}{_DRAFT}")
        if not self._make_room(_blocks(len(data)), now, most):
            raise NotKept("no_room", "[images] max_bytes is full of files that were just used")
        try:
            with suppress(FileExistsError):
                path.parent.mkdir(mode=0o700)
            with open(draft, "xb", opener=_private) as file:
                file.write(data)
            os.utime(draft, (now, now))
            with self._lock:
                draft.replace(path)
                self._note(name, len(data), now).sound = True
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise _not_kept(error) from None

    def has(self, name: str, now: float, life: float) -> bool:
        """Whether a picture is there. It counts as a use."""
        return self.size(name, now, life) is not None

    def touch(self, name: str, now: float, life: float) -> bool:
        """Count a use of a file that this process wrote. Returns False if it is not there.

        One that another process wrote may be damaged, whatever its `life`.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or not entry.sound:
                return False
            if not self._touch(name, entry, now):
                self._forget(name)
                return False
            return True

    @contextmanager
    def opened(
        self, name: str, now: float, life: float, most: int
    ) -> Iterator[tuple[BufferedReader, os.stat_result] | None]:
        """Open a file that was used in the last `life` seconds, with its status; or give None.

        It counts as a use. A file of more than `most` bytes is not opened. Raises OSError, but not
        where the file is gone.
        """
        try:
            file = self._path(name).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            with self._lock:
                self._forget(name)
            yield None
            return
        with file:
            found = os.fstat(file.fileno())
            usable = stat.S_ISREG(found.st_mode) and found.st_size <= most
            if usable and found.st_mtime + life > now:
                with self._lock:
                    self._touch(name, self._note(name, found.st_size, found.st_mtime), now)
                yield file, os.fstat(file.fileno())  # with the time of this use
                return
        self.remove(name, "expired" if usable else "damaged")
        yield None

    def size(self, name: str, now: float, life: float) -> int | None:
        """Return the bytes of a file that was used in the last `life` seconds, or None.

        It counts as a use.
        """
        with suppress(OSError):
            found = self._path(name).stat()
            if found.st_mtime + life > now:
                with self._lock:
                    entry = self._entries.get(name)
                    if entry is None:
                        entry = self._note(name, found.st_size, found.st_mtime)
                    if self._touch(name, entry, now):
                        return found.st_size
        return None

    def load(self, name: str, now: float, life: float, most: int) -> bytes | None:
        """Return the content of any file, unchecked, if it has at most `most` bytes."""
        try:
            with self.opened(name, now, life, most) as found:
                return None if found is None else found[0].read()
        except OSError:  # as if it were gone: it may be back for the next request
            return None

    def read(self, name: str, start: int, length: int, now: float, life: float) -> bytes | None:
        """Return so many bytes of a picture: see `Place`. It counts as a use."""
        try:
            with self.opened(name, now, life, MOST_PICTURE_BYTES) as found:
                if found is None:
                    return None
                if self._is_sound(name, *found):
                    found[0].seek(start)
                    return found[0].read(length)
        except OSError:
            return None
        self.remove(name, "damaged")
        return None

    def _is_sound(self, name: str, file: BufferedReader, found: os.stat_result) -> bool:
        """Whether a file has the bytes of its name. It is read if it has changed since.

        A use changes its time, once a minute.
        """
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._checked.get(name) != version:
            if file_digest(file, "sha256").hexdigest() != digest_of(name):
                return False
            file.seek(0)
            if kind_of(file.read(HEAD_BYTES)) != name.rpartition(".")[2]:
                return False
        self._checked.note(name, version)
        return True

    def remove(self, name: str, reason: str | None = None) -> bool:
        """Remove a file, counted under this reason. Returns False if it was not there."""
        with self._lock:
            self._forget(name)
            try:
                self._path(name).unlink()
            except OSError:
                return False
            if reason is not None:
                self.evicted[reason] += 1
            return True

    # -- all files ------------------------------------------------------------------------------

    def scan(self, now: float, life: float, most: int) -> None:
        """Learn of all files, and remove old drafts, old files, and those beyond `most` bytes."""
        found = dict[str, _Entry]()
        for path, status in self._all():
            if path.name.endswith(_DRAFT):
                # The system dates drafts, by its own clock.
                if time.time() - status.st_mtime > STALE_SECONDS:
                    with suppress(OSError):
                        path.unlink()
            elif now - status.st_mtime >= life:
                self.remove(path.name, "expired")
            else:
                dated = status.st_mtime
                found[path.name] = _Entry(_blocks(status.st_size), dated, dated)
        with self._lock:
            for name, entry in self._entries.items():
                there = found.get(name)
                if entry.dated >= now:  # written since the scan began
                    found[name] = entry
                elif there is not None:
                    there.sound, there.used = entry.sound, max(entry.used, there.used)
            self._entries = OrderedDict(sorted(found.items(), key=lambda item: item[1].used))
            self._bytes = sum(entry.bytes for entry in found.values())
        self._make_room(0, now, most)

    def answers(self, mark: str) -> Iterator[tuple[str, float]]:
        """Yield the names of all cached answers of this mark, with the time of their last use."""
        for path, status in self._all():
            if path.name.endswith(f".{mark}.{ANSWER}"):
                yield path.name, status.st_mtime

    def _all(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield all files and drafts with their status. Others may appear and go meanwhile."""
        with suppress(OSError), os.scandir(self.folder) as folders:
            for folder in folders:
                if not _FOLDER.fullmatch(folder.name):
                    continue
                with suppress(OSError), os.scandir(folder.path) as files:
                    for file in files:
                        if file.name.endswith(_DRAFT) or _NAME.fullmatch(file.name):
                            with suppress(OSError):
                                yield Path(file.path), file.stat(follow_symlinks=False)

    # -- the bytes ------------------------------------------------------------------------------

    def _make_room(self, wanted: int, now: float, most: int) -> bool:
        with self._lock:
            for _ in range(len(self._entries)):
                name, entry = next(iter(self._entries.items()))
                if self._bytes + wanted <= most or 0 <= now - entry.used < RECENT_SECONDS:
                    break
                self._evict(name, entry)
            return self._bytes + wanted <= most

    def _evict(self, name: str, entry: _Entry) -> None:
        path = self._path(name)
        with suppress(OSError):
            dated = path.stat().st_mtime
            if dated > entry.dated + 1:  # another process used it
                entry.dated = entry.used = dated
                self._entries.move_to_end(name)
                return
        self._forget(name)
        with suppress(OSError):
            path.unlink()
            self.evicted["size"] += 1

    def _note(self, name: str, length: int, dated: float) -> _Entry:
        former = self._entries.get(name)
        self._forget(name)
        sound = former is not None and former.sound
        entry = _Entry(_blocks(length), dated, dated, sound)
        self._entries[name] = entry
        self._bytes += entry.bytes
        return entry

    def _forget(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._bytes -= entry.bytes

    def _touch(self, name: str, entry: _Entry, now: float) -> bool:
        self._entries.move_to_end(name)
        entry.used = now
        if now - entry.dated <= USE_SECONDS:
            return self._path(name).exists()
        entry.dated = now
        try:
            os.utime(self._path(name), (now, now))
        except OSError:
            return False
        return True

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _blocks(length: int) -> int:
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES


def _not_kept(error: OSError) -> NotKept:
    return NotKept(_REASONS.get(error.errno, "failed"), error.strerror or "")
